"""One number for a model, and whether two such numbers may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sft.errors import ConfigError

Evaluation = Mapping[str, Mapping[str, Any]]
"""Results by task."""

COMBINED_OF = frozenset({"truthfulqa", "qmsum"})
"""Tasks that the combined score is made of."""

_SAME = ("dataset", "scorer", "num_samples")
"""Keys of a task's results that must be equal before two of its scores say anything about each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CombinedWeights:
    """What each part counts."""

    accuracy: float = 1.0
    rougeL: float = 1.0
    avg_max_score: float = 1.0


def combined_score(results: Evaluation, weights: CombinedWeights | None = None) -> float:
    """TruthfulQA's accuracy + QMSum's ROUGE-L + TruthfulQA's avg_max_score; a part that is missing counts 0."""
    weights = weights or CombinedWeights()
    truthfulqa, qmsum = results.get("truthfulqa", {}), results.get("qmsum", {})
    return (
        weights.accuracy * float(truthfulqa.get("accuracy", 0.0))
        + weights.rougeL * float(qmsum.get("rougeL", 0.0))
        + weights.avg_max_score * float(truthfulqa.get("avg_max_score", 0.0))
    )


def has_combined(results: Evaluation) -> bool:
    """Whether any part of the combined score was measured; without one it is 0 for every model."""
    return not COMBINED_OF.isdisjoint(results)


def mean_score(results: Evaluation) -> float:
    """The mean of the tasks' main scores; all of LongBench, where it is there, counts once, by its average."""
    counted = [task for task in results if "longbench" not in results or not task.startswith("longbench/")]
    return sum(float(results[task]["main_score"]) for task in counted) / len(counted)


def comparable(first: Evaluation, second: Evaluation) -> bool:
    """Whether both were measured on the same rows by the same scorers."""
    return not _differences(first, second)


def require_comparable(first: Evaluation, second: Evaluation) -> None:
    """Refuse to rank two evaluations that were not measured alike.

    Raises:
        ConfigError: naming each task and what differs.
    """
    differences = _differences(first, second)
    if differences:
        raise ConfigError(
            f"these evaluations cannot be compared: {'; '.join(differences)}. Evaluate both anew with the same tasks, "
            "rows and scorers."
        )


def _differences(first: Evaluation, second: Evaluation) -> list[str]:
    found = [f"{task} is in only one of them" for task in sorted(set(first) ^ set(second))]
    for task in sorted(set(first) & set(second)):
        for key in _SAME:
            ours, theirs = first[task].get(key), second[task].get(key)
            if ours != theirs:
                found.append(f"{task} has {key} {ours!r} in one and {theirs!r} in the other")
    return found
