"""Evaluations of a run in order, and which of its models is the best so far.

The untrained model (step 0) is a candidate like every other: if nothing beats it, the history says so.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft.errors import DataError
from sft.tasks.combined import has_combined, mean_score

HISTORY = "eval_history.json"
UNTRAINED = 0


@dataclass(frozen=True, kw_only=True)
class EvaluationEntry:
    """One evaluation of the model at one step."""

    step: int
    timestamp: str
    """Local time of its end, ISO 8601."""
    combined_score: float | None
    """None when it failed, then ``failure`` says why; and where none of its tasks was asked."""
    results: Mapping[str, Mapping[str, Any]]
    """Per task, what was measured."""
    failure: str | None = None
    partial: bool = False
    """Only a part of the test sets was asked (``eval_samples``)."""
    contaminated: int = 0
    """Training rows that hold what was asked and were trained on all the same (``allow_contamination``)."""

    @property
    def score(self) -> float | None:
        """What models are ranked by: the combined score; the mean of the main scores where none of its tasks was asked.
        None when it failed."""
        if not self.results:
            return None
        return self.combined_score if has_combined(self.results) else mean_score(self.results)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in ``eval_history.json``; what is not worth saying is left out."""
        optional = {
            "failure": self.failure,
            "partial": self.partial or None,
            "contaminated": self.contaminated or None,
        }
        said = {name: value for name, value in optional.items() if value is not None}
        kept = {"step": self.step, "timestamp": self.timestamp, "combined_score": self.combined_score}
        return {**kept, "results": {task: dict(values) for task, values in self.results.items()}, **said}


@dataclass
class EvaluationHistory:
    """What ``eval_history.json`` holds."""

    entries: list[EvaluationEntry] = field(default_factory=list)

    def add(self, entry: EvaluationEntry) -> None:
        """Append an evaluation; it takes the place of an earlier one of the same step."""
        others = [one for one in self.entries if one.step != entry.step]
        self.entries = sorted([*others, entry], key=lambda one: one.step)

    def until(self, step: int) -> EvaluationHistory:
        """The history without what came after ``step``; a resumed run makes that anew."""
        return EvaluationHistory([entry for entry in self.entries if entry.step <= step])

    @property
    def best(self) -> EvaluationEntry | None:
        """The highest score, the untrained model's included; the earliest of equals."""
        return highest(self.entries)

    @property
    def best_trained(self) -> EvaluationEntry | None:
        """The highest score of a trained step; the earliest of equals."""
        return highest([entry for entry in self.entries if entry.step != UNTRAINED])

    @property
    def untrained(self) -> EvaluationEntry | None:
        """The evaluation of step 0, if it was made and gave a score."""
        return next((one for one in self.entries if one.step == UNTRAINED and is_score(one.score)), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: ``best_step`` and ``best_score`` (step 0 counts), ``best_trained_step``, ``history``."""
        best, trained = self.best, self.best_trained
        return {
            "best_step": None if best is None else best.step,
            "best_score": None if best is None else best.score,
            "best_trained_step": None if trained is None else trained.step,
            "history": [entry.to_dict() for entry in self.entries],
        }

    def write(self, folder: Path) -> None:
        """Write ``eval_history.json`` beside and rename it into place."""
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{HISTORY}.{os.getpid()}"
        beside.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False), encoding="utf-8")
        os.replace(beside, folder / HISTORY)

    @classmethod
    def read(cls, folder: Path) -> EvaluationHistory:
        """The history of a run folder; empty if there is none.

        Raises:
            DataError: the file is there but is no history.
        """
        path = folder / HISTORY
        if not path.exists():
            return cls()
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))["history"]
            return cls([_entry(values) for values in entries])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no evaluation history: {error!r}. Move it away to start one anew.") from error


def highest(entries: Iterable[EvaluationEntry]) -> EvaluationEntry | None:
    """The entry of the highest score, which may be negative; None where no entry has one."""
    best: EvaluationEntry | None = None
    for entry in entries:
        if is_score(entry.score) and (best is None or _score(entry) > _score(best)):
            best = entry
    return best


def _score(entry: EvaluationEntry) -> float:
    return float("-inf") if entry.score is None else entry.score


def is_score(value: float | None) -> bool:
    """Whether a score can be compared: it is there, and a number."""
    return value is not None and math.isfinite(value)


def _entry(values: Mapping[str, Any]) -> EvaluationEntry:
    return EvaluationEntry(
        step=int(values["step"]),
        timestamp=str(values["timestamp"]),
        combined_score=values["combined_score"],
        results=values["results"],
        failure=values.get("failure"),
        partial=bool(values.get("partial", False)),
        contaminated=int(values.get("contaminated", 0)),
    )
