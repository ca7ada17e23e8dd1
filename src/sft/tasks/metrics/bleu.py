"""Sentence BLEU against one reference, equal to `sacrebleu`'s corpus_bleu of that one pair.

As it is used for TruthfulQA: international tokenisation (mteval-v14), orders 1 to 4, exponential smoothing, no
effective order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import regex

MAX_ORDER = 4
_SPLITS = (
    (regex.compile(r"(\P{N})(\p{P})"), r"\1 \2 "),
    (regex.compile(r"(\p{P})(\P{N})"), r" \1 \2"),
    (regex.compile(r"(\p{S})"), r" \1 "),
)
"""Punctuation stands alone except between digits; symbols stand alone."""


def bleu(prediction: str, reference: str) -> float:
    """BLEU, 0 to 100."""
    predicted, wanted = _words(prediction), _words(reference)
    correct = [_num_common(predicted, wanted, order) for order in range(1, MAX_ORDER + 1)]
    if not any(correct):
        return 0.0
    logs = 0.0
    halvings = 1.0
    for order, num_correct in enumerate(correct, 1):
        total = len(predicted) - order + 1
        if total < 1:
            return 0.0
        if not num_correct:
            halvings *= 2
        logs += math.log(100.0 * num_correct / total if num_correct else 100.0 / (halvings * total))
    penalty = math.exp(1 - len(wanted) / len(predicted)) if len(predicted) < len(wanted) else 1.0
    return penalty * math.exp(logs / MAX_ORDER)


def _words(text: str) -> list[str]:
    text = text.rstrip()
    for pattern, replacement in _SPLITS:
        text = pattern.sub(replacement, text)
    return text.split()


def _num_common(predicted: Sequence[str], wanted: Sequence[str], order: int) -> int:
    have, want = (
        Counter(zip(*(words[start:] for start in range(order)), strict=False)) for words in (predicted, wanted)
    )
    return sum((have & want).values())
