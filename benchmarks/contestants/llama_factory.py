"""LLaMA-Factory, driven by ``run_exp`` and its own configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chats import MAX_LENGTH
from training_work import LORA_ALPHA, LORA_RANK, SETTINGS, WARM_UP, Figures

from contestants.any_trainer import measure_hidden_trainer

TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}


def describe_rows(chats: Path, out: Path) -> None:
    """Write the file that tells LLaMA-Factory of the rows."""
    entry = {"file_name": str(chats), "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": TAGS}
    (out / "dataset_info.json").write_text(json.dumps({"chats": entry}), encoding="utf-8")


def settings_for(chats: Path, model: Path, out: Path, *, packed: bool) -> dict[str, Any]:
    """What preparation and training have in common. Without a template's name it takes the tokenizer's own."""
    return {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": str(model),
        "dataset": "chats",
        "dataset_dir": str(out),
        "cutoff_len": MAX_LENGTH,
        "packing": packed,
        "neat_packing": packed,
        "output_dir": str(out / "run"),
        "report_to": "none",
    }


def measure_training(folder: Path, steps: int, out: str, *, bf16: bool, lora: bool, packed: bool) -> Figures:
    """``packed``: neat packing, its own name for rows that hold several examples without mixing them."""
    from llamafactory.train.tuner import run_exp
    from transformers import AutoTokenizer

    describe_rows(folder / "chats.jsonl", Path(out))
    args = settings_for(folder / "chats.jsonl", folder / "model", Path(out), packed=packed)
    args |= SETTINGS | {
        "finetuning_type": "lora" if lora else "full",
        "max_steps": WARM_UP + steps,
        "disable_gradient_checkpointing": True,
        "disable_tqdm": True,
        "overwrite_cache": True,
        "use_cpu": True,
        "bf16": bf16,
        "pure_bf16": False,
    }
    if lora:
        args |= {"lora_rank": LORA_RANK, "lora_alpha": LORA_ALPHA, "lora_dropout": 0.0, "lora_target": "all"}
    pad_id = AutoTokenizer.from_pretrained(folder / "model").pad_token_id
    return measure_hidden_trainer(lambda: run_exp(args), steps, pad_id=pad_id)


def measure_preparation(path: str, folder: str, cache: str, workers: int) -> Figures:
    """The loading and packing that precede training, by the functions that training calls."""
    import time

    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    out = Path(cache)
    describe_rows(Path(path), out)
    args = settings_for(Path(path), Path(folder), out, packed=True)
    args |= {"preprocessing_num_workers": workers if workers > 1 else None, "use_cpu": True, "bf16": False}
    model_args, data_args, training_args, *_ = get_train_args({k: v for k, v in args.items() if v is not None})
    loaded = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(loaded["tokenizer"], data_args)
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        rows = get_dataset(template, model_args, data_args, training_args, stage="sft", **loaded)["train_dataset"]
        seconds.append(time.perf_counter() - started)
    counted = [
        (sum(mask != 0 for mask in row["attention_mask"]), sum(label != -100 for label in row["labels"]))
        for row in rows
    ]
    return {
        "seconds": seconds[0],
        "again": seconds[1],
        "tokens": sum(tokens for tokens, _ in counted),
        "trained": sum(trained for _, trained in counted),
        "packed_rows": len(counted),
    }
