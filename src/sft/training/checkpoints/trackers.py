"""Trackers: which run a checkpoint belongs to, so that a resumed run goes on in it, and who waits for its files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class KeepsRuns(Protocol):
    """A callback that knows the runs of its trackers."""

    @property
    def names(self) -> Sequence[str]:
        """Its trackers."""

    @property
    def run_ids(self) -> dict[str, str]:
        """Tracker -> its run; what is written into it is what they go on with."""


def tracker_runs(callbacks: Iterable[TrainerCallback] = ()) -> dict[str, str]:
    """Tracker -> id of its run, as the callbacks know it, or as it is open in this process."""
    found = {}
    wandb, mlflow = sys.modules.get("wandb"), sys.modules.get("mlflow")
    if (run := getattr(wandb, "run", None)) is not None:
        found["wandb"] = str(run.id)
    if mlflow is not None and hasattr(mlflow, "active_run") and (active := mlflow.active_run()) is not None:
        found["mlflow"] = str(active.info.run_id)
    for callback in callbacks:
        if isinstance(callback, KeepsRuns):
            found.update(callback.run_ids)
    return found


def go_on_in_trackers(runs: Mapping[str, str], callbacks: Iterable[TrainerCallback] = ()) -> None:
    """Tell trackers to go on in those runs, unless the environment names others.

    Callbacks that keep the runs of their trackers are told; for other trackers the environment is set.
    """
    told: set[str] = set()
    for keeper in (callback for callback in callbacks if isinstance(callback, KeepsRuns)):
        keeper.run_ids.update({name: run for name, run in runs.items() if name in keeper.names})
        told.update(keeper.names)
    for tracker, run in runs.items():
        for variable, value in VARIABLES.get(tracker, {}).items() if tracker not in told else ():
            os.environ.setdefault(variable, run if value is None else value)
