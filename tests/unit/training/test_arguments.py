"""What a configuration says about checkpointing reaches TrainingArguments, under whichever name it has there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft import SFTConfig
from sft.errors import ConfigError
from sft.training.arguments import require_trackers, training_arguments


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


def test_ligers_losses_are_left_out(tmp_path: Path) -> None:
    asked = {"use_liger_kernel": True, "liger_kernel_config": {"rope": False, "fused_linear_cross_entropy": True}}
    arguments = training_arguments(
        SFTConfig(data_path="d.jsonl", output_dir=tmp_path, **asked), has_eval=False, resuming=False
    )
    assert arguments.liger_kernel_config == {
        "rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False
    }  # fmt: skip


def test_a_tracker_that_is_not_installed_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sft.training.arguments.get_available_reporting_integrations", lambda: ["tensorboard"])
    require_trackers(SFTConfig(report_to=["tensorboard"]))
    require_trackers(SFTConfig(report_to="none"))
    with pytest.raises(ConfigError, match=r"report_to = wandb: .*pip install wandb"):
        require_trackers(SFTConfig(report_to=["tensorboard", "wandb"]))
    with pytest.raises(ConfigError, match="pip install comet"):
        require_trackers(SFTConfig(report_to="comet_ml"))
