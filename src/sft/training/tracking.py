"""Tells the trackers of a run what happens in it, from its first step to its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.config import SFTConfig
from sft.errors import TrainingStopped
from sft.evaluation.history import EvaluationHistory
from sft.report.names import PAGE
from sft.trackers.names import named
from sft.trackers.several import Trackers, make_trackers, unread_variables
from sft.trackers.tracker import Ending, RunFacts
from sft.training.arguments import our_trackers
from sft.training.evaluation_callback import COMBINED, MEAN
from sft.training.launch import announce, warn
from sft.training.questions import FILE, FOLDER, is_asked
from sft.training.record import read_record
from sft.training.tracked_answers import answer_tables, question_table, scores

ABOUT = ("method", "parameters", "plan", "versions", "device", "processes")
"""What of run.json trackers get beside the options."""


class Tracking(TrainerCallback):  # type: ignore[misc]
    """Opens the trackers when training begins and tells them figures and answers. ``close`` ends it.

    Args:
        tracked: the trackers.
        config: of the run.
    """

    def __init__(self, tracked: Trackers, config: SFTConfig) -> None:
        self.tracked = tracked
        self.config = config
        self.folder = Path(config.output_dir)
        self.step = 0

    @property
    def names(self) -> Sequence[str]:
        """The trackers that were asked for."""
        return self.tracked.names

    @property
    def run_ids(self) -> dict[str, str]:
        """Tracker -> its run, for a checkpoint to keep and a resumed run to give back."""
        return self.tracked.run_ids

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        self.step = state.global_step
        self.tracked.open(
            RunFacts(
                name=self.config.run_name or self.config.output_dir,
                project=args.project,
                folder=self.folder,
                config=described(read_record(self.folder) or {}),
                step=self.step,
                arguments=self.config.training_arguments,
            )
        )
        if not self.step:
            self.tell_questions(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not self.tracked.open_names or logs is None:
            return
        self.step = state.global_step
        if COMBINED in logs or MEAN in logs:
            self.tell_scores()
        else:
            self.tracked.log(self.step, named(logs, of_pairs=self.config.stage == "dpo"))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.tell_questions(state)

    def tell_questions(self, state: TrainerState) -> None:
        """The user's questions, where they were asked at this step."""
        if not self.tracked.open_names or self.config.gen_questions_file is None or not self.config.track_texts:
            return
        if is_asked(state, self.config.gen_every_n_steps):
            path = self.folder / FOLDER / FILE.format(step=state.global_step)
            table = saying(lambda: question_table(path))
            if table is not None:
                self.tracked.add_table(state.global_step, table)

    def tell_scores(self) -> None:
        """The evaluation of this step: its scores, and what was answered."""
        history = EvaluationHistory.read(self.folder)
        entry = next((entry for entry in history.entries if entry.step == self.step), None)
        if entry is None:
            return
        self.tracked.log(self.step, scores(entry))
        if not self.config.track_texts:
            return
        record = read_record(self.folder) or {}
        for table in saying(lambda: list(answer_tables(self.folder, record, entry))) or ():
            self.tracked.add_table(self.step, table)

    def close(self, ending: Ending) -> None:
        """Give the trackers the page of the run, and end them."""
        page = self.folder / PAGE
        if self.config.track_texts and page.is_file():
            self.tracked.add_page(page, self.step)
        self.tracked.close(ending)


def tracking(config: SFTConfig) -> Tracking | None:
    """What tells the trackers of a config; None where none of ours is asked for."""
    names = our_trackers(config.report_to)
    for variable in unread_variables(names):
        announce(
            f"note: {variable} speaks to transformers' own callback, which this run does not use: checkpoints stay in "
            "output_dir, and nothing of the environment but what docs/trackers.md names is read"
        )
    return Tracking(make_trackers(names, warn), config) if names else None


Found = TypeVar("Found")


def saying(read: Callable[[], Found]) -> Found | None:
    """What is read from the run's folder for trackers; None, and said, where it cannot be."""
    try:
        return read()
    except Exception as error:  # a table for a tracker is worth no run
        warn(f"the trackers get no table of this step: {type(error).__name__}: {error}")
        return None


def described(record: Mapping[str, Any]) -> dict[str, Any]:
    """The options by name, and what else ``run.json`` knows when training begins, as plain JSON values."""
    options = {name: entry["value"] for name, entry in record.get("config", {}).items()}
    about = {f"run.{name}": record[name] for name in ABOUT if record.get(name) is not None}
    return {**options, **about}


class HasTrainer(Protocol):
    """A run with a trainer."""

    @property
    def trainer(self) -> Any: ...


Run = TypeVar("Run", bound=HasTrainer)
Result = TypeVar("Result")


def tracked_to_its_end(train: Callable[[Run], Result]) -> Callable[[Run], Result]:
    """Around the function that trains a run: its trackers are closed however it ends."""

    @wraps(train)
    def tracked(run: Run) -> Result:
        try:
            result = train(run)
        except BaseException as error:
            close_trackers(
                run.trainer, "stopped" if isinstance(error, TrainingStopped | KeyboardInterrupt) else "failed"
            )
            raise
        close_trackers(run.trainer, "finished")
        return result

    return tracked


def close_trackers(trainer: Any, ending: Ending) -> None:
    """End the trackers of a trainer, if it has any."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, Tracking):
            callback.close(ending)
