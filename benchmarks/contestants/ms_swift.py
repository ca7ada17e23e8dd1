"""ms-swift, driven by ``sft_main`` and the words of its command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chats import MAX_LENGTH
from training_work import LORA_ALPHA, LORA_RANK, SETTINGS, WARM_UP, Figures

from contestants.any_trainer import measure_hidden_trainer


def measure_training(folder: Path, steps: int, out: str, *, bf16: bool, lora: bool) -> Figures:
    """Padded rows; its packing wants FlashAttention. A model in a folder needs its type and template by hand."""
    from swift import sft_main
    from transformers import AutoTokenizer

    given: dict[str, Any] = SETTINGS | {
        "model": folder / "model",
        "model_type": "qwen3",
        "template": "chatml",
        "system": "",
        "dataset": folder / "chats.jsonl",
        "load_from_cache_file": "false",
        "split_dataset_ratio": 0,
        "max_length": MAX_LENGTH,
        "truncation_strategy": "delete",
        "tuner_type": "lora" if lora else "full",
        "torch_dtype": "bfloat16" if bf16 and lora else "float32",
        "bf16": str(bf16).lower(),
        "fp16": "false",
        "use_cpu": "true",
        "gradient_checkpointing": "false",
        "max_steps": WARM_UP + steps,
        "attn_impl": "sdpa",
        "dataloader_num_workers": 0,
        "output_dir": Path(out) / "run",
        "report_to": "none",
        "warmup_ratio": 0,
    }
    if lora:
        given |= {"lora_rank": LORA_RANK, "lora_alpha": LORA_ALPHA, "lora_dropout": 0, "target_modules": "all-linear"}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    pad_id = AutoTokenizer.from_pretrained(folder / "model").pad_token_id
    return measure_hidden_trainer(lambda: sft_main(words), steps, pad_id=pad_id)
