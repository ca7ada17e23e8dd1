"""What a configuration says about checkpointing reaches TrainingArguments, under whichever name it has there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft import SFTConfig
from sft.training.arguments import training_arguments


@pytest.mark.parametrize(
    ("asked", "enabled", "kwargs"),
    [
        ({}, False, None),
        ({"gradient_checkpointing": True}, True, {"use_reentrant": False}),
        (
            {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
            True,
            {"use_reentrant": True},
        ),
        ({"activation_checkpointing": True}, True, {"use_reentrant": False}),
    ],
)
def test_checkpointing(asked: dict[str, Any], enabled: bool, kwargs: dict[str, bool] | None, tmp_path: Path) -> None:
    config = SFTConfig(data_path="d.jsonl", output_dir=tmp_path, **asked)
    arguments = training_arguments(config, has_eval=False, resuming=False)
    assert bool(arguments.gradient_checkpointing) is enabled
    assert arguments.gradient_checkpointing_kwargs == kwargs
