"""Every training file that Firefly ships, as facts in firefly.jsonl: each is read whole."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sft.config import SFTConfig, read_file
from sft.data.templates import template_names
from sft.dialects import Translation, recognise, translate

FILE = Path(__file__).with_name("firefly.jsonl")
SHIPPED: dict[str, dict[str, Any]] = {
    entry["path"]: entry["values"] for entry in map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
}
KINDS = {"pretrain": 8, "sft": 48, "dpo": 9}
MEANT = {
    "output_dir": "output_dir",
    "model_name_or_path": "model_name_or_path",
    "train_file": "data_path",
    "max_seq_length": "max_length",
    "num_train_epochs": "num_train_epochs",
    "per_device_train_batch_size": "per_device_train_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "learning_rate": "learning_rate",
    "lr_scheduler_type": "lr_scheduler_type",
    "warmup_steps": "warmup_steps",
    "warmup_ratio": "warmup_steps",
    "weight_decay": "weight_decay",
    "max_grad_norm": "max_grad_norm",
    "lora_rank": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "beta": "dpo_beta",
    "max_prompt_length": "max_prompt_length",
    "logging_steps": "logging_steps",
    "save_steps": "save_steps",
    "save_total_limit": "save_total_limit",
    "save_strategy": "save_strategy",
    "gradient_checkpointing": "gradient_checkpointing",
    "dataloader_num_workers": "dataloader_num_workers",
    "fp16": "fp16",
    "seed": "seed",
    "report_to": "report_to",
}
"""Keys whose value is that of an option of ours, whatever its name."""

LORA_KEYS = {"lora_rank", "lora_alpha", "lora_dropout"}


def read(path: str, folder: Path) -> Translation:
    file = folder / "args.json"
    file.write_text(json.dumps(SHIPPED[path], indent=2), encoding="utf-8")
    values = read_file(file)
    assert recognise(values) == "firefly_args"
    return translate(values, "firefly_args")


def test_all_of_them_are_here() -> None:
    assert Counter(path.split("/")[1] for path in SHIPPED) == KINDS


@pytest.mark.parametrize("path", SHIPPED)
def test_every_file_is_read_whole(path: str, tmp_path: Path) -> None:
    given = SHIPPED[path]
    translation = read(path, tmp_path)
    assert {note.key for note in translation.notes if note.origin} == set(given), "a note for each key, and no other"
    assert translation.problems() == []
    assert all(note.reason for note in translation.notes if note.status == "ignored")
    config = SFTConfig(**translation.values)
    ignored = {note.key for note in translation.notes if note.status == "ignored"}
    for key, option in MEANT.items():
        if key in given and key not in ignored:
            assert getattr(config, option) == given[key], key
    assert (config.use_lora, config.load_in_4bit) == {
        "full": (False, False),
        "lora": (True, False),
        "qlora": (True, True),
    }[path.split("/")[2]]
    assert not ignored & MEANT.keys() or (ignored & MEANT.keys() <= LORA_KEYS and not config.use_lora)
    assert config.stage == path.split("/")[1]
    assert config.optim == given["optim"].replace("adamw_hf", "adamw_torch")
    assert config.training_arguments.get("deepspeed") == given.get("deepspeed")


def test_how_many_are_read(tmp_path: Path) -> None:
    """All of the 48 for SFT, and the others too."""
    read_whole = Counter(path.split("/")[1] for path in SHIPPED if not read(path, tmp_path).problems())
    assert read_whole == KINDS


def test_every_template_is_one_of_ours(tmp_path: Path) -> None:
    named = {path: given["template_name"] for path, given in SHIPPED.items() if "template_name" in given}
    assert len(set(named.values())) == 23
    for path, name in named.items():
        chosen = read(path, tmp_path).values["chat_template"].value
        assert chosen in (f"firefly_{name}", name)
        assert chosen in template_names()
