from __future__ import annotations

from sft.generation.batches import plan_batches
from sft.generation.slot_layout import Limits, Request


def test_batches_hold_every_prompt_once_within_the_budget() -> None:
    lengths = [5, 900, 3, 3, 40, 41, 7, 300]
    batches = plan_batches([Request([1] * length, 20) for length in lengths], Limits(64, 200))
    assert sorted(number for batch in batches for number in batch) == list(range(8))
    assert batches[0] == [1]
    for batch in batches:
        assert len(batch) == 1 or len(batch) * (max(lengths[number] for number in batch) + 20) <= 200
    assert len(batches) < 8


def test_a_batch_has_one_room_and_no_more_rows_than_asked() -> None:
    requests = [Request([1] * 4, room) for room in (9, 1, 9, 9)]
    batches = plan_batches(requests, Limits(2, 10**6))
    assert all(len({requests[number].room for number in batch}) == 1 for batch in batches)
    assert max(map(len, batches)) == 2
