"""Padding is by position, documents are told apart, and nothing is trained that cannot be predicted."""

from __future__ import annotations

import numpy as np

from sft.data.collate import NOT_TRAINED, Collator
from sft.data.types import Example, Source


def make(ids: list[int], mask: list[int], weights: list[float] | None = None) -> Example:
    return Example(
        input_ids=np.array(ids, np.int32),
        loss_mask=np.array(mask, np.uint8),
        weights=None if weights is None else np.array(weights, np.float32),
        text="",
        source=Source("x.jsonl", 1),
    )


def test_a_token_equal_to_the_padding_token_keeps_its_label() -> None:
    batch = Collator(pad_token_id=9, packed=False)([[make([1, 5, 9], [0, 1, 1])], [make([1, 9], [0, 1])]])
    assert batch["labels"].tolist() == [[NOT_TRAINED, 5, 9], [NOT_TRAINED, 9, NOT_TRAINED]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert (batch["num_tokens"], batch["num_trained"]) == (5, 3.0)


def test_packed_documents_restart_their_positions_and_never_train_their_first_token() -> None:
    batch = Collator(pad_token_id=0, packed=True)(
        [[make([1, 2, 3], [0, 1, 1]), make([4, 5], [1, 1])], [make([6], [0])]]
    )
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]]
    assert batch["labels"][0].tolist() == [NOT_TRAINED, 2, 3, NOT_TRAINED, 5]
    assert "attention_mask" not in batch


def test_weights_count_as_so_many_tokens() -> None:
    batch = Collator(pad_token_id=0, packed=False, weighted=True)(
        [[make([1, 2, 3], [0, 1, 1], [1, 2, 0.5])], [make([1, 2], [0, 1])]]
    )
    assert batch["num_trained"] == 3.5
    assert batch["loss_weights"].tolist() == [[1, 2, 0.5], [1, 1, 0]]


def test_an_empty_row_carries_no_label_and_still_attends_to_something() -> None:
    batch = Collator(pad_token_id=0, packed=False)([[make([1, 2], [0, 1])], []])
    assert batch["labels"][1].tolist() == [NOT_TRAINED, NOT_TRAINED]
    assert batch["attention_mask"][1].tolist() == [1, 0]
    assert batch["num_trained"] == 1.0


def test_weights_stand_only_in_batches_that_have_any_where_that_is_asked_for() -> None:
    collate = Collator(pad_token_id=0, packed=False, weighted=None)
    assert "loss_weights" not in collate([[make([1, 2, 3], [0, 1, 1], [5, 1, 1])], [make([1, 2], [0, 1])]])
    weighted = collate([[make([1, 2, 3], [0, 1, 1], [1, 2, 1])], [make([1, 2], [0, 1])]])
    assert weighted["loss_weights"].tolist() == [[1, 2, 1], [1, 1, 0]]
