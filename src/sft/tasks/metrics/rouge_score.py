"""ROUGE-1, -2, -L and -Lsum, bit for bit the F of the Python package `rouge_score` 0.1.2.

Words are runs of a-z and 0-9 in the lowered text; with ``stem``, words of more than three letters are stemmed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from sft.tasks.metrics.lcs import lcs_length, lcs_path
from sft.tasks.metrics.porter import stem_word

ROUGE_NAMES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
_WORDS = re.compile(r"[a-z0-9]+")
_LONGEST_UNSTEMMED = 3


def rouge_scores(prediction: str, reference: str, *, stem: bool = True) -> dict[str, float]:
    """The four F scores by name, each 0 to 1. Sentences of rougeLsum are lines."""
    predicted, wanted = _words(prediction, stem), _words(reference, stem)
    return {
        "rouge1": _rouge_n(predicted, wanted, 1),
        "rouge2": _rouge_n(predicted, wanted, 2),
        "rougeL": _rouge_l(predicted, wanted),
        "rougeLsum": _rouge_l_summary(_lines(prediction, stem), _lines(reference, stem)),
    }


def rouge_l(prediction: str, reference: str, *, stem: bool = True) -> float:
    """F of the longest common subsequence of words, 0 to 1."""
    return _rouge_l(_words(prediction, stem), _words(reference, stem))


def _words(text: str, stem: bool) -> list[str]:
    words = _WORDS.findall(text.lower())
    if not stem:
        return words
    return [stem_word(word) if len(word) > _LONGEST_UNSTEMMED else word for word in words]


def _lines(text: str, stem: bool) -> list[list[str]]:
    return [_words(line, stem) for line in text.split("\n") if line]


def _rouge_n(predicted: Sequence[str], wanted: Sequence[str], size: int) -> float:
    have, want = _ngrams(predicted, size), _ngrams(wanted, size)
    num_same = sum((have & want).values())
    return _f(num_same / max(have.total(), 1), num_same / max(want.total(), 1))


def _ngrams(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(size)), strict=False))


def _rouge_l(predicted: Sequence[str], wanted: Sequence[str]) -> float:
    if not predicted or not wanted:
        return 0.0
    length = lcs_length(wanted, predicted)
    return _f(length / len(predicted), length / len(wanted))


def _rouge_l_summary(predicted: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]) -> float:
    """Words of each reference line that are in its common subsequence with any predicted line; none counted oftener
    than it occurs in either text.
    """
    have = Counter(word for line in predicted for word in line)
    want = Counter(word for line in wanted for word in line)
    num_predicted, num_wanted = have.total(), want.total()
    if not num_predicted or not num_wanted:
        return 0.0
    hits = 0
    for line in wanted:
        for position in _union(line, predicted):
            word = line[position]
            if have[word] > 0 and want[word] > 0:
                hits += 1
                have[word] -= 1
                want[word] -= 1
    return _f(hits / num_predicted, hits / num_wanted)


def _union(line: Sequence[str], predicted: Sequence[Sequence[str]]) -> list[int]:
    """Positions in ``line``, in order. `rouge_score` walks with prediction and reference in exchanged roles."""
    known = set(line)
    union: set[int] = set()
    for other in predicted:
        if known.isdisjoint(other):
            continue
        union.update(lcs_path(other, line).matched_columns)
    return sorted(union)


def _f(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
