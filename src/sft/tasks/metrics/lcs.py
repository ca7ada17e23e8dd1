"""Longest common subsequences on the bits of integers.

One integer holds one row of the table that the textbook fills cell by cell: bit ``j`` is 0 where the row grows between
columns ``j`` and ``j + 1``. A row follows from the one above with five operations on whole integers (Crochemore and
others 2001, Hyyrö 2004), so that a table of 500 by 500 words takes 500 steps.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Path(NamedTuple):
    """How the textbook's walk back through the table goes."""

    matched_rows: list[int]
    """Positions in ``rows`` of the common subsequence, last first."""

    matched_columns: list[int]
    """The same in ``columns``."""

    num_steps: int
    """Cells left behind until the border of the table is reached."""


def lcs_length(rows: Sequence[Hashable], columns: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence."""
    if not rows or not columns:
        return 0
    last = _bit_rows(rows, columns)[-1]
    return len(columns) - last.bit_count()


def lcs_path(rows: Sequence[Hashable], columns: Sequence[Hashable]) -> Path:
    """Walk back from the last cell: diagonally where the words are equal; else up where the row grows into the cell,
    which is where the cell above is larger than the one to the left; else left.
    """
    table = _bit_rows(rows, columns)
    row, column = len(rows), len(columns)
    path = Path([], [], 0)
    num_steps = 0
    while row and column:
        num_steps += 1
        if rows[row - 1] == columns[column - 1]:
            row, column = row - 1, column - 1
            path.matched_rows.append(row)
            path.matched_columns.append(column)
        elif table[row - 1] >> (column - 1) & 1:
            column -= 1
        else:
            row -= 1
    return path._replace(num_steps=num_steps)


def _bit_rows(rows: Sequence[Hashable], columns: Sequence[Hashable]) -> list[int]:
    """The table below its first row, one integer a row."""
    places: dict[Hashable, int] = {}
    for column, word in enumerate(columns):
        places[word] = places.get(word, 0) | 1 << column
    full = (1 << len(columns)) - 1
    current = full
    table = []
    for word in rows:
        matches = current & places.get(word, 0)
        current = ((current + matches) | (current - matches)) & full
        table.append(current)
    return table
