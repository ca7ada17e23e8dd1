"""How alike an answer and a reference are, by a scorer with a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sft.data.sources.spec import nearest
from sft.errors import ConfigError
from sft.tasks.metrics.bleu import bleu
from sft.tasks.metrics.rouge_score import rouge_l


class Similarity(Protocol):
    """Scores pairs of texts, higher is more alike."""

    @property
    def name(self) -> str:
        """Stands in results."""

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        """One score for each pair ``predictions[i]``, ``references[i]``."""


@dataclass(frozen=True, slots=True)
class PairSimilarity:
    """A function of two texts."""

    name: str
    compare: Callable[[str, str], float]

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> list[float]:
        return [self.compare(*pair) for pair in zip(predictions, references, strict=True)]


def _rouge_l_unstemmed(prediction: str, reference: str) -> float:
    return rouge_l(prediction, reference, stem=False)


def _bleu_share(prediction: str, reference: str) -> float:
    return bleu(prediction, reference) / 100


SIMILARITIES: dict[str, Similarity] = {
    "rougeL": PairSimilarity("rougeL", _rouge_l_unstemmed),
    "bleu": PairSimilarity("bleu", _bleu_share),
}
"""Scorers that need no model; 0 to 1. rougeL is `rouge_score`'s without stemming, the habit for TruthfulQA."""

BLEURT = "bleurt"
SCORER_NAMES = (*SIMILARITIES, BLEURT)


def open_similarity(name: str | None, bleurt_checkpoint: str | None) -> Similarity:
    """The scorer by name; None is BLEURT where a checkpoint is given, else ROUGE-L.

    Raises:
        ConfigError: an unknown name, or BLEURT without a checkpoint.
    """
    name = name or (BLEURT if bleurt_checkpoint else "rougeL")
    if name in SIMILARITIES:
        return SIMILARITIES[name]
    if name != BLEURT:
        raise ConfigError(
            f"truthfulqa_scorer {name!r} is not known{nearest(name, SCORER_NAMES) or '.'} It is one of "
            f"{', '.join(SCORER_NAMES)}."
        )
    if not bleurt_checkpoint:
        raise ConfigError(
            "truthfulqa_scorer bleurt needs a checkpoint: give the name or folder of a BLEURT model that transformers "
            "reads (a sequence classifier with one output) as bleurt_checkpoint, or choose rougeL or bleu."
        )
    from sft.tasks.bleurt import Bleurt

    return Bleurt(bleurt_checkpoint)
