"""The recipes written for TRL (alignment-handbook, open-r1) and TRL's own example, as facts in trl.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft.cli.options import load_translated, read_translation
from sft.config import SFTConfig, load_config
from sft.dialects import Translation

FILE = Path(__file__).with_name("trl.jsonl")
SHIPPED: dict[str, dict[str, Any]] = {
    entry["path"]: entry["values"] for entry in map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
}
SAME = (
    "model_name_or_path", "attn_implementation", "bf16", "gradient_accumulation_steps", "gradient_checkpointing",
    "learning_rate", "logging_steps", "lr_scheduler_type", "max_steps", "num_train_epochs", "output_dir",
    "per_device_train_batch_size", "per_device_eval_batch_size", "seed", "save_strategy", "save_steps",
    "chat_template", "packing", "max_grad_norm", "max_length", "lora_r", "lora_alpha", "run_name", "optim",
    "load_in_4bit", "eval_strategy", "trust_remote_code", "save_total_limit",
)  # fmt: skip
RENAMED = {"torch_dtype": "dtype", "max_seq_length": "max_length", "warmup_ratio": "warmup_steps"}
PASSED = (
    "gradient_checkpointing_kwargs", "hub_model_id", "hub_strategy", "log_level", "logging_strategy", "push_to_hub",
    "lr_scheduler_kwargs", "hub_always_push", "save_only_model",
)  # fmt: skip


def read(path: str, folder: Path) -> tuple[Translation, SFTConfig]:
    """As ``sft translate FILE`` and ``sft train FILE`` do."""
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(SHIPPED[path]), encoding="utf-8")
    translation, rest = read_translation([str(file)])
    assert translation is not None
    return translation, load_translated(translation, rest)


def test_all_of_them_are_here() -> None:
    owners = [path.split("/")[1] for path in SHIPPED]
    assert {owner: owners.count(owner) for owner in owners} == {"alignment-handbook": 12, "open-r1": 3, "trl": 1}


@pytest.mark.parametrize("path", SHIPPED)
def test_every_recipe_is_read_whole(path: str, tmp_path: Path) -> None:
    given = SHIPPED[path]
    translation, config = read(path, tmp_path)
    assert translation.dialect == "trl"
    assert {note.key.partition(".")[0] for note in translation.notes if note.origin} == set(given)
    assert all(note.reason for note in translation.notes if note.status == "ignored")
    for key, option in [(key, key) for key in SAME] + list(RENAMED.items()):
        if given.get(key) is not None:
            assert getattr(config, option) == given[key], key
    for key in PASSED:
        if key in given:
            assert config.training_arguments[key] == given[key], key
    assert config.use_lora is given.get("use_peft", False)
    assert config.train_on == "answers"


@pytest.mark.parametrize("path", SHIPPED)
def test_what_is_printed_is_the_same_configuration(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sft.cli.main import main

    _, config = read(path, tmp_path)
    assert main(["translate", str(tmp_path / "recipe.yaml")]) == 0
    ours = tmp_path / "ours.yaml"
    ours.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_config(ours) == config


def test_mixtures_are_the_sources_with_their_splits_and_weights(tmp_path: Path) -> None:
    path = next(path for path in SHIPPED if path.endswith("smollm3/sft/sft.yaml"))
    listed = SHIPPED[path]["dataset_mixture"]["datasets"]
    sources = read(path, tmp_path)[1].data_path
    assert isinstance(sources, list)
    assert len(sources) == len(listed) == 25
    assert [(one["path"], one["subset"], one["split"], one["weight"]) for one in sources] == [
        (one["id"], one["config"], one["split"], one["weight"]) for one in listed
    ]


def test_what_is_held_out_is_what_the_recipe_evaluates_on(tmp_path: Path) -> None:
    for path, given in SHIPPED.items():
        _, config = read(path, tmp_path)
        if given.get("eval_strategy", "no") == "no":
            assert (config.eval_data_path, config.validation_size) == (None, 0)
        elif "dataset_mixture" in given:
            assert config.validation_size == given["dataset_mixture"]["test_split_size"]
        else:
            assert isinstance(config.eval_data_path, list)
            (held_out,) = config.eval_data_path
            assert held_out["split"] == given.get("dataset_test_split", "test_sft")
