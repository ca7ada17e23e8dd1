"""Answers that are a number (LongBench's ``count``, ``retrieval`` and ``retrieval_zh``)."""

from __future__ import annotations

import re

from sft.errors import DataError

_NUMBERS = re.compile(r"\d+")
_PARAGRAPH = re.compile(r"Paragraph (\d+)")
_PARAGRAPH_ZH = re.compile(r"段落(\d+)")


def count(prediction: str, reference: str) -> float:
    """Which share of the numbers in the answer is the one wanted, compared as text. 0 to 1; 0 without a number."""
    numbers = _NUMBERS.findall(prediction)
    return numbers.count(reference) / len(numbers) if numbers else 0.0


def retrieval(prediction: str, reference: str) -> float:
    """The same for a reference such as "Paragraph 7"."""
    return count(prediction, _paragraph(reference, _PARAGRAPH))


def retrieval_zh(prediction: str, reference: str) -> float:
    """The same for a reference such as "段落7"."""
    return count(prediction, _paragraph(reference, _PARAGRAPH_ZH))


def _paragraph(reference: str, pattern: re.Pattern[str]) -> str:
    found = pattern.search(reference)
    if found is None:
        wanted = pattern.pattern.replace(r"(\d+)", "7")
        raise DataError(f"the reference {reference[:60]!r} names no paragraph; it must read like {wanted!r}")
    return found[1]
