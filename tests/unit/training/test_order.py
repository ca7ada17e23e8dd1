"""The order of rows is a function of seed and epoch, begins with the longest row and never repeats one."""

from __future__ import annotations

from sft.data.collate import EMPTY_ROW
from sft.training.order import RowOrder


def test_each_epoch_is_a_permutation_of_its_own() -> None:
    order = RowOrder(10, seed=1, shuffle=True)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    order.set_epoch(0)
    assert list(order) == first


def test_the_longest_row_comes_first_in_the_first_epoch_only() -> None:
    order = RowOrder(50, seed=1, shuffle=True, first=33)
    plain = RowOrder(50, seed=1, shuffle=True)
    assert next(iter(order)) == 33
    assert sorted(order) == list(range(50))
    order.set_epoch(1)
    plain.set_epoch(1)
    assert list(order) == list(plain)


def test_processes_get_equal_shares_filled_with_empty_rows() -> None:
    order = RowOrder(10, seed=0, shuffle=False, multiple=4)
    assert len(order) == 12
    assert list(order) == [*range(10), EMPTY_ROW, EMPTY_ROW]
