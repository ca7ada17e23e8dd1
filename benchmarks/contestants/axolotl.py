"""axolotl, driven as its command `axolotl train` drives it, by a configuration file of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chats import MAX_LENGTH
from training_work import BATCH, LORA_ALPHA, LORA_RANK, SETTINGS, WARM_UP, Figures

from contestants.any_trainer import measure_hidden_trainer


def measure_training(folder: Path, steps: int, out: str, *, bf16: bool, lora: bool) -> Figures:
    """Padded rows; its packing wants FlashAttention."""
    from axolotl.cli.args import TrainerCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.cli.train import do_train
    from transformers import AutoTokenizer

    given: dict[str, Any] = {
        "base_model": str(folder / "model"),
        "datasets": [
            {
                "path": str(folder / "chats.jsonl"),
                "ds_type": "json",
                "type": "chat_template",
                "field_messages": "messages",
            }
        ],
        "chat_template": "tokenizer_default",
        "dataset_prepared_path": str(Path(out) / "prepared"),
        "dataset_num_proc": 1,
        "sequence_len": MAX_LENGTH,
        "sample_packing": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "pad_to_sequence_len": False,
        "micro_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "optimizer": "adamw_torch",
        "learning_rate": SETTINGS["learning_rate"],
        "lr_scheduler": SETTINGS["lr_scheduler_type"],
        "warmup_steps": 0,
        "max_steps": WARM_UP + steps,
        "num_epochs": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "gradient_checkpointing": False,
        "bf16": bf16,
        "fp16": False,
        "tf32": False,
        "attn_implementation": "sdpa",
        "output_dir": str(Path(out) / "run"),
        "seed": SETTINGS["seed"],
    }
    if lora:
        given |= {
            "adapter": "lora", "lora_r": LORA_RANK, "lora_alpha": LORA_ALPHA, "lora_dropout": 0.0,
            "lora_target_linear": True,
        }  # fmt: skip
    file = Path(out) / "axolotl.yaml"
    file.write_text(json.dumps(given), encoding="utf-8")  # JSON is YAML too
    pad_id = AutoTokenizer.from_pretrained(folder / "model").pad_token_id
    return measure_hidden_trainer(lambda: do_train(load_cfg(str(file)), TrainerCliArgs()), steps, pad_id=pad_id)
