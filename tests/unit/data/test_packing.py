"""Packing: every example once, no row too full, and as few rows as the best known simple bound allows."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.data.packing import pack_examples, pack_in_order, packing_efficiency

CAPACITY = 64


@given(st.lists(st.integers(1, CAPACITY)))
def test_every_example_appears_once_and_no_row_is_too_full(lengths: list[int]) -> None:
    packs = pack_examples(lengths, CAPACITY)
    assert sorted(position for pack in packs for position in pack) == list(range(len(lengths)))
    assert all(sum(lengths[position] for position in pack) <= CAPACITY for pack in packs)


@given(st.lists(st.integers(1, CAPACITY), min_size=1))
def test_no_two_rows_could_share_one(lengths: list[int]) -> None:
    packs = pack_examples(lengths, CAPACITY)
    filled = sorted(sum(lengths[position] for position in pack) for pack in packs)
    assert len(packs) == 1 or filled[0] + filled[1] > CAPACITY
    assert len(packs) <= 2 * math.ceil(sum(lengths) / CAPACITY)


def test_the_tightest_space_is_filled_first() -> None:
    # 59 leaves 5 and 50 leaves 14: the 10 goes to the 14, the 5 to the 5 it fills exactly
    assert pack_examples([50, 59, 10, 5], CAPACITY) == [[1, 3], [0, 2]]


@given(st.lists(st.integers(1, CAPACITY)))
def test_packing_in_order_keeps_the_order_and_leaves_no_room_for_the_next(lengths: list[int]) -> None:
    packs = pack_in_order(lengths, CAPACITY)
    assert [position for pack in packs for position in pack] == list(range(len(lengths)))
    assert all(sum(lengths[position] for position in pack) <= CAPACITY for pack in packs)
    for one, after in itertools.pairwise(packs):
        assert sum(lengths[position] for position in one) + lengths[after[0]] > CAPACITY


def test_packing_in_order_refuses_what_no_row_takes() -> None:
    with pytest.raises(ValueError, match="example 1 has 65 tokens"):
        pack_in_order([5, 65], CAPACITY)


def test_equal_input_gives_equal_output() -> None:
    lengths = [5, 9, 9, 30, 2, 61, 7] * 9
    assert pack_examples(lengths, CAPACITY) == pack_examples(list(lengths), CAPACITY)


@pytest.mark.parametrize("length", [0, CAPACITY + 1])
def test_a_length_outside_the_row_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"example 1 has {length} tokens"):
        pack_examples([3, length], CAPACITY)


def test_efficiency_is_the_share_of_filled_slots() -> None:
    assert packing_efficiency([32, 16], [[0, 1]], CAPACITY) == 0.75
    assert packing_efficiency([], [], CAPACITY) == 0.0
