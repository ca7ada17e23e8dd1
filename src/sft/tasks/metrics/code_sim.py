"""Similarity of two lines of code (LongBench's ``code_sim``)."""

from __future__ import annotations

from difflib import SequenceMatcher


def code_sim(prediction: str, reference: str) -> float:
    """Ratio of `difflib` between the reference and the first line that looks like code, to two decimals. 0 to 1.

    LongBench takes `fuzzywuzzy` 0.18.0, which answers with difflib's ratio, or with another one where
    python-Levenshtein is installed beside it. Its published scores are difflib's (57.61 on lcc where the other gives
    59.82).
    """
    line = _first_code_line(prediction)
    if line == reference:
        return 1.0
    if not line or not reference:
        return 0.0
    return round(100 * SequenceMatcher(None, line, reference).ratio()) / 100


def _first_code_line(text: str) -> str:
    """The first line without a fence or comment sign; '' if there is none."""
    lines = text.lstrip("\n").split("\n")
    return next((line for line in lines if "`" not in line and "#" not in line and "//" not in line), "")
