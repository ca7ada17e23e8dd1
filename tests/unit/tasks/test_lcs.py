"""Rows of bits beside the table filled cell by cell."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sft.tasks.metrics.lcs import lcs_length, lcs_path

WORDS = st.lists(st.sampled_from("abc"), max_size=90)  # beyond one machine word


def table_of(rows: list[str], columns: list[str]) -> list[list[int]]:
    table = [[0] * (len(columns) + 1) for _ in range(len(rows) + 1)]
    for i, row in enumerate(rows, 1):
        for j, column in enumerate(columns, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if row == column else max(table[i - 1][j], table[i][j - 1])
    return table


@given(WORDS, WORDS)
def test_the_length_is_that_of_the_table(rows: list[str], columns: list[str]) -> None:
    assert lcs_length(rows, columns) == table_of(rows, columns)[-1][-1]


@given(WORDS, WORDS)
def test_the_walk_is_that_through_the_table(rows: list[str], columns: list[str]) -> None:
    table = table_of(rows, columns)
    i, j = len(rows), len(columns)
    matched: list[tuple[int, int]] = []
    num_steps = 0
    while i and j:
        num_steps += 1
        if rows[i - 1] == columns[j - 1]:
            i, j = i - 1, j - 1
            matched.append((i, j))
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    path = lcs_path(rows, columns)
    assert list(zip(path.matched_rows, path.matched_columns, strict=True)) == matched
    assert path.num_steps == num_steps
