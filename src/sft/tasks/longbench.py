"""LongBench (v1): 21 subsets, asked and scored as its authors do. `longbench.toml` is the table of them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from sft.data.types import Source
from sft.errors import DataError
from sft.tasks.fields import number_field, text_field, texts_field
from sft.tasks.metrics import METRICS, classification
from sft.tasks.task import AnswerLimits, Loader, Results, Scored, Task, TaskExample, no_examples, require_rows

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]  # the same parser, for 3.10

SUMMARIES = "summarization"
"""The category whose rows are told apart by their document alone."""

BUCKETS = (("0-4k", 4000), ("4-8k", 8000), ("8k+", None))
"""Lengths of LongBench-E: name, and the length that is the first too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """One table of `longbench.toml`, where the fields are explained."""

    name: str
    category: str
    language: str
    metric: str
    max_new_tokens: int
    num_rows: int
    chat: bool
    first_line: bool
    stop_at_newline: bool
    longbench_e: bool
    answer_prefix: str
    prompt: str


@functools.cache
def read_subsets() -> Mapping[str, Subset]:
    """All 21 subsets by name, in the order of the table."""
    text = resources.files("sft.tasks").joinpath("longbench.toml").read_text(encoding="utf-8")
    return {name: Subset(name=name, **values) for name, values in tomllib.loads(text).items()}


@dataclass(frozen=True, kw_only=True)
class LongBenchTask(Task):
    """One subset."""

    subset: Subset
    by_length: bool = False
    """LongBench-E: results also say the score of each length."""

    @property
    def scorer(self) -> str:
        return self.subset.metric

    @property
    def answer_prefix(self) -> str:
        return self.subset.answer_prefix

    def telling_inputs(self, example: TaskExample) -> tuple[str, ...]:
        """Context and question; of a summary only the context, since many documents are asked the same query."""
        if self.subset.category == SUMMARIES:
            return (example.inputs["context"],)
        return tuple(example.inputs.values())

    def prompt(self, example: TaskExample) -> str:
        """The authors' words around the two fields. Braces in the fields are text."""
        return self.subset.prompt.format(context=example.inputs["context"], input=example.inputs["input"])

    def score(self, prediction: str, example: TaskExample) -> Scored:
        """``score``: the best over the references, 0 to 1."""
        answer = prediction.lstrip("\n").split("\n")[0] if self.subset.first_line else prediction
        return {
            "score": max((self._compare(answer, reference, example) for reference in example.references), default=0.0)
        }

    def aggregate(self, rows: Sequence[Scored], examples: Sequence[TaskExample]) -> Results:
        """``score``: 100 times the mean, to two decimals; with ``by_length`` also ``lengths``, None where no row is."""
        require_rows(rows, self.name)
        scores = [row["score"] for row in rows]
        score = round(100 * sum(scores) / len(scores), 2)
        results = {
            "dataset": self.name,
            "num_samples": len(rows),
            "score": score,
            "main_metric": "score",
            "main_score": score,
            "scorer": self.scorer,
        }
        if self.by_length:
            results["lengths"] = _score_by_length(scores, examples)
        return results

    def prediction_row(self, prediction: str, example: TaskExample) -> dict[str, Any]:
        """A line that the authors' own scorer reads too."""
        return {
            "id": example.id,
            "dataset": self.subset.name,
            "pred": prediction,
            "answers": list(example.references),
            "all_classes": list(example.classes) or None,
            "length": example.length,
        }

    def read_prediction(self, values: Mapping[str, Any], source: Source) -> tuple[str, TaskExample]:
        """A line with ``pred``, ``answers``, ``all_classes`` and, for LongBench-E, ``length``."""
        example = TaskExample(
            id=str(values.get("id", values.get("_id", source.line))),
            inputs={},
            references=texts_field(values, ("answers",), source),
            classes=self.classes_of(values, source),
            length=number_field(values, "length", source, required=self.by_length),
            source=source,
        )
        return text_field(values, ("pred", "prediction"), source), example

    def classes_of(self, values: Mapping[str, Any], source: Source) -> tuple[str, ...]:
        """The class names of a row; only classification needs and reads them."""
        return texts_field(values, ("all_classes",), source) if self.subset.metric == "classification" else ()

    def _compare(self, answer: str, reference: str, example: TaskExample) -> float:
        if self.subset.metric == "classification":
            return classification(answer, reference, example.classes)
        try:
            return METRICS[self.subset.metric](answer, reference)
        except DataError as error:
            raise DataError(f"{example.source}: {error}") from error


def make_longbench(name: str, *, load: Loader = no_examples, by_length: bool = False) -> LongBenchTask:
    """The task of one subset, by the subset's own name."""
    subset = read_subsets()[name]
    return LongBenchTask(
        name=f"longbench{'_e' if by_length else ''}/{name}",
        limits=AnswerLimits(
            max_new_tokens=subset.max_new_tokens,
            min_new_tokens=int(subset.stop_at_newline),
            stop_at_newline=subset.stop_at_newline,
        ),
        chat=subset.chat,
        load=load,
        subset=subset,
        by_length=by_length,
    )


def average_categories(scores: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """The published overall scores, from the score of each subset by the subset's name.

    A category is the mean of its subsets, ``english`` and ``chinese`` the mean of six categories each; the two subsets
    of code count in both. What a missing subset belongs to is None.
    """
    return {language: _average_language(scores, codes) for language, codes in (("english", "en"), ("chinese", "zh"))}


def _average_language(scores: Mapping[str, float], language: str) -> dict[str, Any]:
    members: dict[str, list[float | None]] = {}
    for subset in read_subsets().values():
        if subset.language in (language, "code"):
            members.setdefault(subset.category, []).append(scores.get(subset.name))
    means = {category: _mean(values) for category, values in members.items()}
    return {
        "average": _rounded(_mean(list(means.values()))),
        "categories": {category: _rounded(mean) for category, mean in means.items()},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _score_by_length(scores: Sequence[float], examples: Sequence[TaskExample]) -> dict[str, float | None]:
    buckets: dict[str, list[float]] = {name: [] for name, _ in BUCKETS}
    for score, example in zip(scores, examples, strict=True):
        name = next(name for name, limit in BUCKETS if limit is None or (example.length or 0) < limit)
        buckets[name].append(score)
    return {name: round(100 * float(np.mean(found)), 2) if found else None for name, found in buckets.items()}
