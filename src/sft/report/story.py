"""What a page tells, as plain values: nothing here reads a file or writes HTML.

What a run did not record is None or empty; the page then says "not recorded".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.evaluation.history import EvaluationHistory


@dataclass(frozen=True, slots=True)
class Series:
    """One figure over the steps of a run, as it was logged."""

    steps: list[float]
    values: list[float | None]
    """None where the figure was no finite number."""

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def first(self) -> float | None:
        """The earliest value."""
        return self.values[0] if self.values else None

    @property
    def last(self) -> float | None:
        """The latest value."""
        return self.values[-1] if self.values else None

    def at(self, step: float) -> float | None:
        """The value at a step, the later one of two."""
        found = [value for here, value in zip(self.steps, self.values, strict=True) if here == step]
        return found[-1] if found else None

    def lowest(self) -> tuple[float, float] | None:
        """Step and value of the lowest value, the earliest of equals."""
        pairs = [(step, value) for step, value in zip(self.steps, self.values, strict=True) if value is not None]
        return min(pairs, key=lambda pair: pair[1], default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """``metrics.jsonl``."""

    series: Mapping[str, Series]
    lines: int
    """Lines that were read."""
    last_step: int | None
    last_epoch: float | None
    first_time: float | None
    """Seconds since 1970."""
    last_time: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened at a step."""

    step: int
    kind: str
    """checkpoint, resume, spike, not finite, out of memory, ..."""
    text: str
    rows: tuple[str, ...] = ()
    """Places of the rows of that step, the first of them."""
    num_rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One model's answer to one question."""

    text: str
    score: float | None
    """As the task scored this row; None where the run did not keep it."""
    unanswered: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedRow:
    """One question and what each shown model answered."""

    id: str
    question: str | None
    reference: str | None
    answers: tuple[Answer | None, ...]
    """In the order of ``TaskAnswers.models``; None where that model was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedModel:
    """A model of the run whose answers are shown."""

    step: int
    title: str
    """untrained, best, last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAnswers:
    """The answers to one task, or to the user's own questions, row by row."""

    task: str
    metric: str | None
    """None where nothing scores the answers."""
    models: tuple[AskedModel, ...]
    rows: tuple[AskedRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStory:
    """Everything that a page says of one run."""

    folder: Path
    name: str
    record: Mapping[str, Any]
    """``run.json``; empty where there is none."""
    logged: Logged
    history: EvaluationHistory
    marks: tuple[Mark, ...]
    answers: tuple[TaskAnswers, ...]
    data: Mapping[str, Any] | None
    """``data_summary.json``."""
    best_kept: str | None
    """The folder, within the run's, of the best evaluated model."""
    missing: tuple[str, ...]
    """Files that the run does not have."""
    unread: tuple[str, ...]
    """Files, or lines of files, that could not be read, and why."""

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end and saved its model."""
        return isinstance(self.record.get("result"), dict)

    @property
    def ended(self) -> Mapping[str, Any]:
        """How, when and with what message a run ended before it was finished; empty for any other, and a killed one."""
        return {} if self.is_finished else self.part("ended")

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes, as far as the run could say."""
        return self.is_finished or bool(self.ended)

    def option(self, name: str) -> Any:
        """The value of an option; None where it was not recorded."""
        entry = _mapping(self.record.get("config")).get(name)
        return entry.get("value") if isinstance(entry, Mapping) else None

    def part(self, name: str) -> Mapping[str, Any]:
        """An object of ``run.json``; empty where it was not recorded."""
        return _mapping(self.record.get(name))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
