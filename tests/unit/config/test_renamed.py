from __future__ import annotations

from typing import Any

import pytest

from sft.config.renamed import RENAMED, Renamed, apply_renames
from sft.config.values import RawValue


def renamed(**values: Any) -> Renamed:
    return apply_renames({name: RawValue(value, "a.yaml:3") for name, value in values.items()})


@pytest.mark.parametrize(
    ("old", "value", "new", "expected"),
    [
        ("warmup_ratio", 0.1, "warmup_steps", 0.1),
        ("warmup_ratio", "0.1", "warmup_steps", "0.1"),
        ("evaluation_strategy", "epoch", "eval_strategy", "epoch"),
        ("max_seq_length", 512, "max_length", 512),
        ("torch_dtype", "torch.bfloat16", "dtype", "bfloat16"),
        ("torch_dtype", "auto", "dtype", "auto"),
        ("no_cuda", True, "use_cpu", True),
        ("activation_checkpointing", True, "gradient_checkpointing", True),
        ("per_gpu_train_batch_size", 2, "per_device_train_batch_size", 2),
        ("adafactor", True, "optim", "adafactor"),
        ("optim", "adamw_hf", "optim", "adamw_torch"),
        ("dtype", "bf16", "dtype", "bfloat16"),
        ("eval_strategy", False, "eval_strategy", "no"),
    ],
)
def test_is_translated_with_a_note(old: str, value: Any, new: str, expected: Any) -> None:
    result = renamed(**{old: value})
    assert result.values == {new: RawValue(expected, "a.yaml:3")}
    assert result.problems == []
    assert any(old in note for note in result.notes)


@pytest.mark.parametrize(
    ("old", "value"),
    [
        ("save_safetensors", True),
        ("group_by_length", "False"),
        ("logging_dir", "logs"),
        ("adafactor", False),
        ("fp16_opt_level", "O1"),
        ("half_precision_backend", "auto"),
        ("include_tokens_per_second", True),
    ],
)
def test_is_dropped_with_a_note(old: str, value: Any) -> None:
    result = renamed(**{old: value})
    assert result.values == {}
    assert result.problems == []
    assert old in result.notes[0]


@pytest.mark.parametrize(
    ("old", "value"),
    [
        ("warmup_ratio", 1),
        ("warmup_ratio", -0.1),
        ("warmup_ratio", "some"),
        ("warmup_ratio", None),
        ("save_safetensors", False),
        ("group_by_length", True),
        ("adafactor", "perhaps"),
        ("fp16_opt_level", "O2"),
        ("torchdynamo", "inductor"),
    ],
)
def test_is_refused_where_nothing_means_the_same(old: str, value: Any) -> None:
    result = renamed(**{old: value})
    assert result.values == {}
    assert len(result.problems) == 1
    assert result.problems[0].startswith(old)
    assert "a.yaml:3" in result.problems[0]


def test_old_and_new_name_together() -> None:
    result = renamed(max_seq_length=512, max_length=1024)
    assert result.values == {"max_length": RawValue(1024, "a.yaml:3")}
    assert "max_seq_length" in result.problems[0]


def test_two_old_names_of_one_option() -> None:
    result = renamed(no_cuda=True, use_cpu=False)
    assert "use_cpu" in result.problems[0]


@pytest.mark.parametrize(("given", "expected"), [(True, "auto"), (False, None), ("none", None), ("ckpt", "ckpt")])
def test_which_checkpoint(given: Any, expected: str | None) -> None:
    assert renamed(resume_from_checkpoint=given).values["resume_from_checkpoint"].value == expected


def test_todays_names_pass_untouched() -> None:
    result = renamed(max_length=512, unheard_of=1)
    assert result.values == {"max_length": RawValue(512, "a.yaml:3"), "unheard_of": RawValue(1, "a.yaml:3")}
    assert result.notes == []


def test_every_dropped_name_says_why() -> None:
    assert all(rename.note for rename in RENAMED.values() if rename.new is None)
