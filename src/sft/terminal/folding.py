"""Long lines folded to the width of a terminal, between words."""

from __future__ import annotations

import re

from sft.terminal.plain import num_columns

LABEL = re.compile(r" +\S+ {2,}")
"""What a line of a list begins with: its continuation stands under what follows."""

NARROWEST = 20
"""Columns that are left for text at least."""


def folded(text: str, width: int) -> str:
    """Each line in at most ``width`` columns. A word that is wider stays whole, so that a path can be copied."""
    return "\n".join(part for line in text.split("\n") for part in _fold_line(line, width))


def folded_command(words: str, width: int) -> str:
    """A command for a shell: folded before its options, so that all lines copied together still are that command."""
    if num_columns(words) <= width:
        return words
    return " \\\n      ".join(re.split(r" (?=--)", words))


def _fold_line(line: str, width: int) -> list[str]:
    if num_columns(line) <= width:
        return [line]
    label = LABEL.match(line)
    hanging = len(label[0]) if label is not None else 0
    if not hanging or width - hanging < NARROWEST:
        hanging = len(line) - len(line.lstrip(" ")) + 2
    lines, current, used = [], "", 0
    for word in re.findall(r"\s*\S+", line):
        size = num_columns(word)
        if current.strip() and used + size > width:
            lines.append(current)
            current, word = " " * hanging, word.lstrip(" ")
            used, size = hanging, num_columns(word)
        current, used = current + word, used + size
    return [*lines, current]
