"""Which run of a tracker a checkpoint belongs to, so that a resumed run goes on in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

VARIABLES: dict[str, dict[str, str | None]] = {
    "wandb": {"WANDB_RUN_ID": None, "WANDB_RESUME": "allow"},
    "mlflow": {"MLFLOW_RUN_ID": None},
}
"""What each tracker reads; None stands for the run's id."""


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
