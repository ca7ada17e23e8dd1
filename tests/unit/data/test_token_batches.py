"""Batches by tokens: every row once, never more than the budget, the same in every process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.data.collate import EMPTY_ROW, Collator, RowGroup, TrainingRows
from sft.data.growing import write_store
from sft.data.store import ExampleStore, StoreWriter
from sft.data.token_batches import RowGroups, form_batches, share_of_tokens
from sft.data.types import Example, Source

lengths = st.lists(st.integers(1, 50), max_size=60).map(lambda drawn: np.array(drawn, np.int64))


@given(lengths, st.integers(50, 300), st.sampled_from([None, 0, 7]))
def test_every_row_is_in_one_batch_under_the_budget(
    drawn: np.ndarray,
    budget: int,
    seed: int | None,  # type: ignore[type-arg]
) -> None:
    batches = form_batches(drawn, budget, seed=seed)
    assert sorted(row for batch in batches for row in batch) == list(range(len(drawn)))
    assert all(drawn[batch].max() * len(batch) <= budget for batch in batches)
    assert batches == form_batches(drawn, budget, seed=seed)


@given(lengths, st.integers(50, 300))
def test_sorted_batches_take_neighbours_in_length_and_the_rest_keeps_its_order(
    drawn: np.ndarray,
    budget: int,  # type: ignore[type-arg]
) -> None:
    by_length = [drawn[row] for batch in form_batches(drawn, budget, seed=3) for row in batch]
    assert by_length == sorted(drawn, reverse=True)
    assert [row for batch in form_batches(drawn, budget, seed=None) for row in batch] == list(range(len(drawn)))


def test_rows_of_one_length_come_together_by_seed() -> None:
    drawn = np.full(40, 10, np.int64)
    assert form_batches(drawn, 40, seed=1) != form_batches(drawn, 40, seed=2)


def test_less_is_padded_than_with_rows_as_they_come() -> None:
    drawn = np.random.default_rng(0).integers(1, 500, 1000)
    as_they_come = [list(range(start, start + 8)) for start in range(0, 1000, 8)]
    assert share_of_tokens(drawn, form_batches(drawn, 4096, seed=0)) > 0.95
    assert share_of_tokens(drawn, as_they_come) < 0.6


def test_a_row_that_fits_no_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 9 cannot take it"):
        form_batches(np.array([3, 10]), 9, seed=None)


@pytest.fixture
def store(tmp_path: Path) -> ExampleStore:
    """Three examples of 6, 3 and 4 tokens; behind the last trained one stand 2, 0 and 3 tokens."""
    writer = StoreWriter()
    for line, mask in enumerate([[0, 1, 0, 1, 0, 0], [0, 0, 1], [0, 0, 0, 0]]):
        ids = np.arange(len(mask), dtype=np.int32) + 10 * line
        writer.add(Example(input_ids=ids, loss_mask=np.array(mask, np.uint8), text="", source=Source("x", line + 1)))
    write_store(tmp_path, writer)
    return ExampleStore(tmp_path)


def test_what_follows_the_last_trained_token_is_left_out(store: ExampleStore) -> None:
    computed = store.lengths_to_last_trained
    assert computed.tolist() == [4, 3, 1]
    rows = TrainingRows(store, [[0, 1], [2]], computed=computed)
    assert rows.lengths.tolist() == [7, 1]
    assert [example.input_ids.tolist() for example in rows[0]] == [[0, 1, 2, 3], [10, 11, 12]]
    assert [example.loss_mask.tolist() for example in rows[0]] == [[0, 1, 0, 1], [0, 0, 1]]
    assert [len(example) for example in TrainingRows(store)[0]] == [6]


def test_batches_formed_beforehand_are_collated_as_their_rows_are(store: ExampleStore) -> None:
    rows = TrainingRows(store)
    groups = RowGroups(rows, [[2, 0], [1]])
    assert groups.lengths.tolist() == [12, 3]
    collate = Collator(0, packed=False)
    formed, plain = collate([groups[0]]), collate([rows[2], rows[0]])
    assert formed["input_ids"].tolist() == plain["input_ids"].tolist()
    assert formed["labels"].tolist() == plain["labels"].tolist()
    assert groups[EMPTY_ROW] == RowGroup()
    assert collate([groups[EMPTY_ROW]])["num_trained"] == 0.0
