"""The order of rows that come in windows."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler
from transformers import TrainerState

from sft.config import SFTConfig
from sft.data.cache import META
from sft.data.growing import write_store
from sft.data.layout import TRAIN
from sft.data.store import StoreWriter
from sft.data.stream import NotWaitedFor, Stream
from sft.data.types import Example, Source
from sft.data.windows import Windows
from sft.errors import DataError, TrainingStopped
from sft.training.window_order import WindowOrder, require_end
from sft.training.window_rows import MOST_ROWS, WindowRows

COUNT, SIZE = 22, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np

    folder = tmp_path_factory.mktemp("prepared") / "entry"
    examples = StoreWriter()
    for number in range(COUNT):
        length = 3 + number * 7 % 11
        mask = np.array([0] + [1] * (length - 1), np.uint8)
        ids = np.full(length, number, np.int32)
        examples.add(Example(input_ids=ids, loss_mask=mask, text="", source=Source("rows.jsonl", number + 1)))
    write_store(folder / TRAIN, examples)
    (folder / META).touch()
    return folder


def rows_of(folder: Path, num_rows: int, **options: Any) -> WindowRows:
    config = SFTConfig(stream_preparation=True, stream_window=SIZE, max_steps=5, max_length=24, **options)
    return WindowRows(config, Stream(Windows(folder, SIZE, {})), num_rows)


def order_of(rows: WindowRows, **options: Any) -> WindowOrder:
    return WindowOrder(rows, **{"per_step": 4, "seed": 3, "shuffle": True, "batch_size": 2, **options})


def examples_of(rows: WindowRows, order: list[int]) -> list[int]:
    """Numbers of the examples that are seen, in order."""
    return [int(example.input_ids[0]) for index in order for example in rows[index]]


@pytest.mark.parametrize("packing", [True, False])
def test_each_pass_sees_every_example_once_window_after_window(folder: Path, packing: bool) -> None:
    rows = rows_of(folder, 400, packing=packing)
    seen = examples_of(rows, list(order_of(rows)))
    passes = [seen[start : start + COUNT] for start in range(0, 3 * COUNT, COUNT)]
    for one in passes:
        assert [sorted(one[start : start + SIZE]) for start in (0, 8, 16)] == [
            [*range(8)], [*range(8, 16)], [*range(16, 22)]
        ]  # fmt: skip
    assert passes[0] != passes[1] != passes[2]
    assert seen[:COUNT] != [*range(COUNT)]


def test_the_order_is_a_function_of_the_seed_and_begins_with_the_longest_row(folder: Path) -> None:
    rows = rows_of(folder, 40)
    one, again, other = (list(order_of(rows_of(folder, 40), seed=seed)) for seed in (3, 3, 4))
    assert one == again != other
    lengths = [len(rows[number][0]) for number in range(SIZE)]
    assert {lengths[one[0]], lengths[other[0]]} == {max(lengths)}


def test_rows_in_the_order_of_the_data(folder: Path) -> None:
    rows = rows_of(folder, 24, train_sampling_strategy="sequential")
    assert examples_of(rows, list(order_of(rows, shuffle=False))) == [*range(22), 0, 1]


def test_more_steps_go_on_with_the_same_order(folder: Path) -> None:
    assert list(order_of(rows_of(folder, 80)))[:40] == list(order_of(rows_of(folder, 40)))


def test_processes_share_the_rows_of_each_step(folder: Path) -> None:
    rows = rows_of(folder, 40)
    alone = list(order_of(rows, per_step=8))
    shards = [list(BatchSamplerShard(BatchSampler(order_of(rows, per_step=8), 2, False), 2, rank)) for rank in (0, 1)]
    assert [len(shard) for shard in shards] == [10, 10]
    for step in range(5):
        taken = [index for shard in shards for batch in shard[2 * step : 2 * step + 2] for index in batch]
        assert Counter(taken) == Counter(alone[8 * step : 8 * step + 8])


def test_processes_that_share_rows_get_copies(folder: Path) -> None:
    order = order_of(rows_of(folder, 8), copies=2)
    indices = list(order)
    assert len(order) == len(indices) == 16
    assert [indices[start : start + 2] for start in (0, 4, 8, 12)] == [indices[s : s + 2] for s in (2, 6, 10, 14)]


def test_a_process_that_loads_data_finds_rows_by_itself(folder: Path) -> None:
    rows = rows_of(folder, 8)
    index = 2 * MOST_ROWS + 3
    there: WindowRows = pickle.loads(pickle.dumps(rows))
    assert examples_of(there, [index]) == examples_of(rows, [index]) == [19]
    assert rows.sources(index) == ["rows.jsonl:20"]


class Ends(Stream):
    """Two windows come, and then there is an error."""

    def __init__(self, folder: Path, error: Exception) -> None:
        super().__init__(Windows(folder, SIZE, {}))
        self.error = error

    def wait_for(self, number: int) -> bool:
        if number == 2:
            raise self.error
        return True


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (DataError("rows.jsonl:20: no answer"), DataError, "rows.jsonl:20: no answer\n.*checkpoint-2 .*2 of 5 steps"),
        (NotWaitedFor(), TrainingStopped, "stopped while waiting .*checkpoint-2"),
        (RuntimeError("it died"), RuntimeError, "it died. checkpoint-2 .* The same command goes on"),
    ],
)
def test_data_that_end_early_end_the_order_after_a_whole_step(
    folder: Path, error: Exception, kind: type[Exception], said: str
) -> None:
    rows = rows_of(folder, 30)
    rows.stream = Ends(folder, error)
    order = order_of(rows, per_step=6)
    assert len(list(order)) == 12
    assert order.steps_there == 2
    state: Any = SimpleNamespace(global_step=2, max_steps=5)
    with pytest.raises(kind, match=f"(?s){said}"):
        require_end(order, state)


def test_an_order_that_ended_early_is_no_error_when_no_step_is_left(folder: Path) -> None:
    rows = rows_of(folder, 30)
    rows.stream = Ends(folder, DataError("too late to matter"))
    order = order_of(rows, per_step=6)
    list(order)
    require_end(order, TrainerState(global_step=5, max_steps=5))
    with pytest.raises(DataError, match="No step was made"):
        require_end(order, TrainerState(global_step=0, max_steps=5))
