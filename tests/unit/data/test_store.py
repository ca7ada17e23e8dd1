"""What is read back from a store is what was written into it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sft.data.growing import write_store
from sft.data.store import ExampleStore, StoreWriter
from sft.data.types import Example, Source

examples = st.lists(
    st.tuples(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans()), min_size=1, max_size=9), st.booleans()),
    min_size=0,
    max_size=8,
)


@given(examples)
def test_round_trip(tmp_path_factory, drawn) -> None:  # type: ignore[no-untyped-def]
    folder: Path = tmp_path_factory.mktemp("store")
    written = [
        Example(
            input_ids=np.array([token for token, _ in tokens], np.int32),
            loss_mask=np.array([trained for _, trained in tokens], np.uint8),
            weights=np.full(len(tokens), 0.5, np.float32) if weighted else None,
            text="not stored",
            source=Source(f"file{index % 2}.jsonl", index + 1, "row" if index % 3 else "line"),
            turn=index if index % 2 else None,
        )
        for index, (tokens, weighted) in enumerate(drawn)
    ]
    writer = StoreWriter()
    for example in written:
        writer.add(example)
    write_store(folder, writer)
    store = ExampleStore(folder)

    assert len(store) == len(written)
    assert store.weighted == any(weighted for _, weighted in drawn)
    assert store.lengths.tolist() == [len(example) for example in written]
    assert store.trained_lengths.tolist() == [example.num_trained_tokens for example in written]
    assert sum(store.count_by_path().values()) == len(written)
    present = {int(token) for example in written for token in example.input_ids}
    asked = {*list(present)[::2], 5, 7}
    assert store.tokens_among(asked) == asked & present
    assert store.count_by_path() == dict(Counter(example.source.path for example in written))
    for expected, found in zip(written, store, strict=True):
        assert found.input_ids.tolist() == expected.input_ids.tolist()
        assert found.loss_mask.tolist() == expected.loss_mask.tolist()
        assert (found.source, found.turn) == (expected.source, expected.turn)
        if store.weighted:
            expected_weights = [1.0] * len(expected) if expected.weights is None else expected.weights.tolist()
            assert found.weights is not None
            assert found.weights.tolist() == expected_weights
