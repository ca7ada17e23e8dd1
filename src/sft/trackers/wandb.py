"""Weights & Biases: one run with one id, online or offline, which a resumed run goes on with."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from sft.trackers.tracker import Ending, RunFacts, Table, Tracker

FINISH_SECONDS = 300.0
"""How long the end of a run waits for a server. What is not sent by then lies in W&B's folder (``wandb sync``)."""

STEP = "train/step"
"""The step as a figure of its own, for a run that somebody else counts the steps of."""


class WandbTracker(Tracker):
    """Sends to W&B. A run that the user opened is used and left open."""

    name = "wandb"

    def open(self, facts: RunFacts) -> str:
        self._is_own = wandb.run is None
        self._run: Any = begin(facts) if wandb.run is None else wandb.run
        self._run.config.update(dict(facts.config), allow_val_change=True)
        self._first = int(self._run.step) if self._is_own else 0
        if not self._is_own:
            self._run.define_metric(STEP)
            self._run.define_metric("*", step_metric=STEP, step_sync=True)
        return str(self._run.id)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._send(step, figures)

    def add_table(self, step: int, table: Table) -> None:
        rows = [list(row) for row in table.rows]
        sent = wandb.Table(columns=list(table.columns), data=rows, allow_mixed_types=True)
        self._send(step, {f"answers/{table.name}": sent})

    def add_page(self, page: Path, step: int) -> None:
        artifact = wandb.Artifact(f"page-{self._run.id}", type="report", metadata={"step": step})
        artifact.add_file(str(page))
        self._run.log_artifact(artifact)

    def close(self, ending: Ending) -> None:
        if self._is_own:
            self._run.finish(exit_code=0 if ending == "finished" else 1)

    def _send(self, step: int, values: Mapping[str, Any]) -> None:
        """W&B takes no step twice: what it has of a run that was interrupted stays as it is."""
        if not self._is_own:
            self._run.log({**values, STEP: step})
        elif step >= self._first:
            self._run.log(dict(values), step=step)


def begin(facts: RunFacts) -> Any:
    """Open a run; where the server cannot be used as asked, one that is kept on disk."""
    given: dict[str, Any] = {
        "project": os.environ.get("WANDB_PROJECT") or facts.project,
        "name": os.environ.get("WANDB_NAME") or facts.name,
        "id": os.environ.get("WANDB_RUN_ID") or facts.run_id or secrets.token_hex(4),
        "resume": os.environ.get("WANDB_RESUME") or "allow",
    }
    patience = {} if "WANDB_FINISH_TIMEOUT" in os.environ else {"finish_timeout": FINISH_SECONDS}
    if not needs_login():
        try:
            return wandb.init(**given, settings=patience)
        except wandb.errors.CommError:
            wandb.teardown()
    return wandb.init(**given, settings={**patience, "mode": "offline"})


def needs_login() -> bool:
    """Whether W&B would stop and ask somebody for a key."""
    return os.environ.get("WANDB_MODE", "online") in ("online", "shared") and not wandb.api.api_key
