"""Trackers: which run a checkpoint belongs to, so that a resumed run goes on in it, and who waits for its files."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from transformers import TrainerCallback

VARIABLES: dict[str, dict[str, str | None]] = {
    "wandb": {"WANDB_RUN_ID": None, "WANDB_RESUME": "allow"},
    "mlflow": {"MLFLOW_RUN_ID": None},
}
"""What each tracker reads; None stands for the run's id."""


UPLOADS = (
    "WANDB_LOG_MODEL", "HF_MLFLOW_LOG_ARTIFACTS", "CLEARML_LOG_MODEL", "HF_DVCLIVE_LOG_MODEL", "COMET_LOG_ASSETS",
)  # fmt: skip
"""What makes transformers' trackers take a checkpoint's files when it is saved."""


def wants_folder(callback: TrainerCallback) -> bool:
    """Whether a callback does something with a checkpoint as soon as it is saved."""
    if type(callback).on_save is TrainerCallback.on_save:
        return False
    is_tracker = type(callback).__module__.startswith("transformers.integrations")
    return not is_tracker or any(os.environ.get(name, "false").lower() not in ("false", "0") for name in UPLOADS)


def tracker_runs() -> dict[str, str]:
    """Tracker -> id of the run that is open in this process."""
    found = {}
    wandb, mlflow = sys.modules.get("wandb"), sys.modules.get("mlflow")
    if (run := getattr(wandb, "run", None)) is not None:
        found["wandb"] = str(run.id)
    if mlflow is not None and hasattr(mlflow, "active_run") and (active := mlflow.active_run()) is not None:
        found["mlflow"] = str(active.info.run_id)
    return found


def go_on_in_trackers(runs: Mapping[str, str]) -> None:
    """Tell trackers to go on in those runs, unless the environment names others."""
    for tracker, run in runs.items():
        for variable, value in VARIABLES.get(tracker, {}).items():
            os.environ.setdefault(variable, run if value is None else value)
