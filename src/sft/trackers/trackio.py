"""Trackio: one run of a project, kept on this machine or in a Space, which a resumed run goes on with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import trackio
from huggingface_hub import constants

from sft.trackers.tracker import Ending, RunFacts, Table, Tracker, not_there_yet

ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""Send a run to another machine."""


class TrackioTracker(Tracker):
    """Sends to Trackio. Runs are found again by name there, so that a new one gets a name that no other has."""

    name = "trackio"

    def open(self, facts: RunFacts) -> str:
        project = os.environ.get("TRACKIO_PROJECT") or facts.project
        space = facts.arguments.get("trackio_space_id")
        stays_here = space is None and not any(map(os.environ.get, ELSEWHERE))
        self._last = last_steps(project, facts.run_id) if stays_here and facts.run_id else {}
        with hub_left_alone() if stays_here else nullcontext():
            self._run: Any = trackio.init(
                project=project,
                name=facts.run_id or free_name(project, facts.name),
                config=dict(facts.config),
                resume="allow" if facts.run_id else "never",
                space_id=space,
                bucket_id=facts.arguments.get("trackio_bucket_id"),
                private=facts.arguments.get("hub_private_repo"),
                embed=False,
            )
        return str(self._run.name)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._send(step, figures)

    def add_table(self, step: int, table: Table) -> None:
        rows = [list(row) for row in table.rows]
        self._send(step, {f"answers/{table.name}": trackio.Table(columns=list(table.columns), data=rows)})

    def add_page(self, page: Path, step: int) -> None:
        self._run.log_artifact(page, name="page", type="report")

    def close(self, ending: Ending) -> None:
        if trackio.context_vars.current_run.get() is self._run:
            trackio.finish()
        else:
            self._run.finish()

    def _send(self, step: int, values: Mapping[str, Any]) -> None:
        if new := not_there_yet(values, step, self._last):
            self._run.log(new, step=step)


def last_steps(project: str, name: str) -> dict[str, int]:
    """Of each figure and table that this machine's store has of a run. Trackio would keep both lines of a step.

    Its interface has no word for that, so its store is asked; where another version's cannot be, both lines are kept.
    """
    try:
        from trackio.sqlite_storage import SQLiteStorage

        lines = SQLiteStorage.get_logs(project, name)
        return {figure: int(line["step"]) for line in sorted(lines, key=lambda one: one["step"]) for figure in line}
    except (ImportError, AttributeError, KeyError, TypeError):
        return {}


@contextmanager
def hub_left_alone() -> Iterator[None]:
    """Trackio asks the hub for the name of whoever is logged in, and waits for an answer, be it for a local run."""
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def free_name(project: str, name: str) -> str:
    """The name, or the first of name-2, name-3, ... that no run of the project has."""
    try:
        taken = {run.name for run in trackio.Api().runs(project)}
    except ValueError:  # there is no such project yet
        return name
    numbered = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
    return next(free for free in numbered if free not in taken)
