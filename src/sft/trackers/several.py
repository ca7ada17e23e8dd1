"""Several trackers at once. One that fails is said once and left out; the run goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from sft.config.secrets import without_secrets
from sft.trackers.tracker import Ending, RunFacts, Table, Tracker

KNOWN = ("tensorboard", "wandb", "mlflow", "trackio")
"""Trackers that are ours; transformers knows more."""


UNREAD = {
    "wandb": ("WANDB_LOG_MODEL", "WANDB_WATCH"),
    "mlflow": ("HF_MLFLOW_LOG_ARTIFACTS", "MLFLOW_NESTED_RUN", "MLFLOW_TAGS"),
}
"""What speaks to transformers' callbacks of these trackers, and not to ours: uploads of checkpoints and the like."""


def unread_variables(names: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """The variables of ``UNREAD`` that ask for something."""
    of_ours = [variable for name in names for variable in UNREAD.get(name, ())]
    return [name for name in of_ours if environment.get(name, "false").lower() not in ("false", "0", "")]


class Trackers:
    """The trackers of a run.

    Args:
        trackers: makes each of them, by name. They import their libraries, which may fail like all else.
        say: tells people which tracker is left out, and why.
    """

    def __init__(self, trackers: Mapping[str, Callable[[], Tracker]], say: Callable[[str], object]) -> None:
        self._makers = dict(trackers)
        self._say = say
        self._open: dict[str, Tracker] = {}
        self.run_ids: dict[str, str] = {}
        """Tracker -> its run. One that failed keeps its own: a resumed run tries again."""

    @property
    def names(self) -> Sequence[str]:
        """Those that were asked for."""
        return tuple(self._makers)

    @property
    def open_names(self) -> Sequence[str]:
        """Those that take what they are told."""
        return tuple(self._open)

    def open(self, facts: RunFacts) -> None:
        """Begin with each, or go on in the runs of ``run_ids``."""
        for name, make in self._makers.items():

            def begin(name: str = name, make: Callable[[], Tracker] = make) -> None:
                tracker = make()
                self.run_ids[name] = tracker.open(replace(facts, run_id=self.run_ids.get(name)))
                self._open[name] = tracker

            self._guard(name, "it could not begin", begin)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Tell all of them figures."""
        self._each("it did not take figures", lambda tracker: tracker.log(step, figures))

    def add_table(self, step: int, table: Table) -> None:
        """Give all of them a table."""
        self._each(f"it did not take the table {table.name}", lambda tracker: tracker.add_table(step, table))

    def add_page(self, page: Path, step: int) -> None:
        """Give all of them the page."""
        self._each(f"it did not take {page.name}", lambda tracker: tracker.add_page(page, step))

    def close(self, ending: Ending) -> None:
        """End with each; called again, nothing happens."""
        self._each("it could not end", lambda tracker: tracker.close(ending))
        self._open.clear()

    def _each(self, failure: str, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            self._guard(name, failure, lambda tracker=tracker: act(tracker))  # type: ignore[misc]

    def _guard(self, name: str, failure: str, act: Callable[[], None]) -> None:
        """Trackers print; standard output is for results."""
        try:
            with redirect_stdout(sys.stderr):
                act()
        except Exception as error:  # whatever it is, a run is worth more than its tracker
            self._open.pop(name, None)
            why = without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))
            self._say(
                f"{name} is left out from here on: {failure}: {why}. The run goes on, and metrics.jsonl in its folder "
                "holds every figure."
            )


def make_trackers(names: Sequence[str], say: Callable[[str], object]) -> Trackers:
    """Those of ``names`` that are ours, in that order."""
    makers: Mapping[str, Callable[[], Tracker]] = {
        "tensorboard": tensorboard_tracker,
        "wandb": wandb_tracker,
        "mlflow": mlflow_tracker,
        "trackio": trackio_tracker,
    }
    return Trackers({name: makers[name] for name in dict.fromkeys(names) if name in makers}, say)


# Each imports a library that only its users have.


def tensorboard_tracker() -> Tracker:
    """TensorBoard."""
    from sft.trackers.tensorboard import TensorBoardTracker

    return TensorBoardTracker()


def wandb_tracker() -> Tracker:
    """W&B."""
    from sft.trackers.wandb import WandbTracker

    return WandbTracker()


def mlflow_tracker() -> Tracker:
    """MLflow."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # to its makers; nobody asked for that here
    from sft.trackers.mlflow import MlflowTracker

    return MlflowTracker()


def trackio_tracker() -> Tracker:
    """Trackio."""
    from sft.trackers.trackio import TrackioTracker

    return TrackioTracker()
