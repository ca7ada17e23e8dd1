"""axolotl's 222 examples of supervised fine-tuning, as facts in axolotl.jsonl: read whole, or refused by name."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sft.cli.translate import as_yaml, given_values
from sft.config import RawValue, SFTConfig, load_config
from sft.dialects import Translation, recognise, translate
from sft.errors import ConfigError

FILE = Path(__file__).with_name("axolotl.jsonl")
SHIPPED: dict[str, dict[str, Any]] = {
    entry["path"]: entry["values"] for entry in map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
}
TEXT = [path for path, values in SHIPPED.items() if not values.get("processor_type")]

READ_WHOLE = 180
REFUSED = {
    # other ways to compute a step
    "llama4_linearized_experts": 5, "nvfp4_merge_aware": 2, "dsv4_fp4_grouped_mode": 3, "use_dsv4_kernels": 1,
    "diffusion": 1, "tiled_mlp": 2,
    "plugins": 1,
    # evaluation, metrics, checkpoints
    "save_strategy": 1,
}  # fmt: skip
"""In how many of the text files a key is refused."""

MEANT = {
    "base_model": "model_name_or_path", "sequence_len": "max_length", "num_epochs": "num_train_epochs",
    "micro_batch_size": "per_device_train_batch_size", "optimizer": "optim", "lr_scheduler": "lr_scheduler_type",
    "learning_rate": "learning_rate", "weight_decay": "weight_decay", "output_dir": "output_dir", "seed": "seed",
    "lora_r": "lora_r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout", "max_steps": "max_steps",
    "warmup_ratio": "warmup_steps", "val_set_size": "validation_size", "load_in_4bit": "load_in_4bit",
    "load_in_8bit": "load_in_8bit", "lora_modules_to_save": "modules_to_save", "logging_steps": "logging_steps",
    "gradient_accumulation_steps": "gradient_accumulation_steps", "trust_remote_code": "trust_remote_code",
    "sample_packing": "packing", "max_grad_norm": "max_grad_norm", "quantize_moe_experts": "quantize_experts",
    "lora_target_parameters": "target_parameters", "early_stopping_patience": "early_stopping_patience",
}  # fmt: skip
"""Keys whose value is that of an option of ours, where the key is used at all."""


@cache
def read(path: str) -> Translation:
    values = {key: RawValue(value, "train.yaml:1") for key, value in SHIPPED[path].items()}
    assert recognise(values) == "axolotl"
    return translate(values, "axolotl")


@cache
def configured(path: str) -> SFTConfig | tuple[str, ...]:
    """The configuration, or what is wrong with it."""
    translation = read(path)
    try:
        config = SFTConfig(**translation.values)
    except ConfigError as error:
        return (*translation.problems(), *error.problems)
    return tuple(translation.problems()) or config


def test_all_of_them_are_here() -> None:
    assert (len(SHIPPED), len(TEXT)) == (222, 193)


@pytest.mark.parametrize("path", SHIPPED)
def test_every_key_is_explained(path: str) -> None:
    notes = [note for note in read(path).notes if note.origin]
    assert {note.key.partition(".")[0].partition("[")[0] for note in notes} == set(SHIPPED[path])
    assert all(note.reason for note in notes if note.status in ("ignored", "refused"))
    nested = {f"datasets[1].{key}" for key in SHIPPED[path]["datasets"][0]}
    assert nested <= {note.key for note in notes}


def test_how_many_are_read_whole_and_why_the_others_are_not() -> None:
    refused: Counter[str] = Counter()
    whole = 0
    for path in TEXT:
        result = configured(path)
        if isinstance(result, SFTConfig):
            whole += 1
            continue
        names = {note.key.partition("[")[0] for note in read(path).notes if note.status == "refused"}
        assert names, (path, result)
        refused.update(names)
    assert dict(refused) == REFUSED
    assert whole == READ_WHOLE, f"{whole} of {len(TEXT)}"


def test_images_and_sound_are_refused_by_name() -> None:
    for path in set(SHIPPED) - set(TEXT):
        assert any(problem.startswith("processor_type") for problem in read(path).problems()), path


@pytest.mark.parametrize("path", TEXT)
def test_values_are_those_of_the_file(path: str) -> None:
    config = configured(path)
    if not isinstance(config, SFTConfig):
        return
    given = SHIPPED[path]
    unused = {note.key for note in read(path).notes if note.status == "ignored"}
    for key, option in MEANT.items():
        if given.get(key) is not None and key not in unused:
            asked = float(given[key]) if key == "learning_rate" else given[key]
            assert getattr(config, option) == asked, key
    assert config.use_lora is (given.get("adapter") in ("lora", "qlora"))
    in_four_bits = given.get("adapter") == "qlora" or given.get("load_in_4bit") or given.get("peft")
    assert config.load_in_4bit is bool(in_four_bits)
    brain = given.get("bf16", "auto" if given.get("fp8") else None)
    assert config.bf16 is (brain in ("auto", True) and not (brain == "auto" and given.get("fp16")))
    kinds = {entry["type"] for entry in given["datasets"]}
    if kinds == {"alpaca"}:
        assert config.chat_template == "axolotl_alpaca"
    if kinds == {"chat_template"}:
        assert config.chat_template is not None
        assert config.chat_template == "own" or given.get("chat_template")
    assert [source["path"] for source in config.data_path] == [entry["path"] for entry in given["datasets"]]  # type: ignore[union-attr, index]
    assert config.train_on == ("everything" if given.get("train_on_inputs") else "answers")


@pytest.mark.parametrize("path", TEXT)
def test_what_is_printed_is_the_same_configuration(path: str, tmp_path: Path) -> None:
    config = configured(path)
    if isinstance(config, SFTConfig):
        ours = tmp_path / "ours.yaml"
        ours.write_text(as_yaml(given_values(config)), encoding="utf-8")
        assert load_config(ours) == config
