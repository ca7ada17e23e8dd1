"""How alike two texts are: pure functions, prediction first, then the reference.

Each equals a published scorer to the last bit, by a quicker road where there is one.
"""

from __future__ import annotations

from collections.abc import Callable

from sft.tasks.metrics.classification import classification
from sft.tasks.metrics.code_sim import code_sim
from sft.tasks.metrics.numbers import count, retrieval, retrieval_zh
from sft.tasks.metrics.rouge import rouge, rouge_zh
from sft.tasks.metrics.words import exact_match, qa_f1, qa_f1_zh

__all__ = ["METRICS", "classification"]

METRICS: dict[str, Callable[[str, str], float]] = {
    "code_sim": code_sim,
    "count": count,
    "exact_match": exact_match,
    "qa_f1": qa_f1,
    "qa_f1_zh": qa_f1_zh,
    "retrieval": retrieval,
    "retrieval_zh": retrieval_zh,
    "rouge": rouge,
    "rouge_zh": rouge_zh,
}
"""Metrics that compare one answer with one reference; 0 to 1. ``classification`` needs the classes too."""
