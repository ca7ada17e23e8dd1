"""ROUGE-L as LongBench publishes it: the F of the Python package `rouge` 1.0.1, its habits included.

Texts are split at full stops, and only there; sentences into words at white space. For each pair of a reference
sentence and a predicted one, the words of one longest common subsequence are noted. The score compares how many
different words were noted in all with how many different words each text has. The package finds the subsequence by a
recursion; a pair of sentences too long for Python's stack scores 0 under LongBench's scorer, and so it does here.
"""

from __future__ import annotations

from itertools import chain

from sft.tasks.metrics.chinese import chinese_words
from sft.tasks.metrics.lcs import lcs_path

DEEPEST_WALK = 990
"""Steps through the table that LongBench's eval.py survives: measured on Python 3.11 and 3.12 (3.10: 989)."""

DEEPEST_WALK_ZH = DEEPEST_WALK - 1
"""One function lies between for Chinese."""


def rouge(prediction: str, reference: str, *, deepest_walk: int = DEEPEST_WALK) -> float:
    """Summary-level ROUGE-L F, 0 to 1. 0 where either text has no sentence."""
    predicted, wanted = _sentences(prediction), _sentences(reference)
    if not predicted or not wanted:
        return 0.0
    noted: set[str] = set()
    for sentence in wanted:
        known = set(sentence)
        for other in predicted:
            if len(sentence) + len(other) <= deepest_walk and known.isdisjoint(other):
                continue
            path = lcs_path(sentence, other)
            if path.num_steps > deepest_walk:
                return 0.0
            noted.update(sentence[row] for row in path.matched_rows)
    recall = len(noted) / len(set(chain.from_iterable(wanted)))
    precision = len(noted) / len(set(chain.from_iterable(predicted)))
    return 2.0 * ((precision * recall) / (precision + recall + 1e-8))


def rouge_zh(prediction: str, reference: str) -> float:
    """The same over Chinese words, 0 to 1."""
    return rouge(" ".join(chinese_words(prediction)), " ".join(chinese_words(reference)), deepest_walk=DEEPEST_WALK_ZH)


def _sentences(text: str) -> list[list[str]]:
    """Words of each sentence. A sentence of white space is the one word ''."""
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]
