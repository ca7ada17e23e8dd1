"""The model of glibc's heap, beside the real one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from sft.config import SFTConfig
from sft.training.cpu_memory import is_glibc
from sft.training.memory import estimate, heap, proposals
from sft.training.memory.check import find_fit
from sft.training.memory.heap import Event, Heap, heap_sizes
from sft.training.memory.place import Place
from sft.training.strategy import AskedStrategy

ALONE = AskedStrategy("one process", 1)

REAL = """
import ctypes, json, sys
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.mallopt(-4, 0)
libc.mallopt(-1, 2**31 - 1)
events = json.load(sys.stdin)
pointers = {block: ctypes.c_void_p() for block, _ in events}
before = libc.sbrk(ctypes.c_long(0))
for block, size in events:
    if size:
        assert libc.posix_memalign(ctypes.byref(pointers[block]), ctypes.c_size_t(64), ctypes.c_size_t(size)) == 0
    else:
        libc.free(pointers[block])
print(libc.sbrk(ctypes.c_long(0)) - before)
"""
"""Has glibc make and free the blocks, and prints by how much its heap grew."""


def random_events(seed: int) -> list[Event]:
    """Blocks of a few sizes that come and go, as tensors do."""
    chance = random.Random(seed)
    sizes = [chance.randrange(1 << 16, 1 << 23) for _ in range(9)]
    events: list[Event] = []
    alive: list[int] = []
    for block in range(1, 400):
        events.append((block, chance.choice(sizes)))
        alive.append(block)
        while alive and chance.random() < 0.5:
            events.append((alive.pop(chance.randrange(len(alive))), 0))
    return events


def size_after(events: list[Event]) -> int:
    made = Heap()
    for block, size in events:
        if size:
            made.take(block, size)
        else:
            made.give(block)
    return made.size


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
@pytest.mark.parametrize("seed", range(4))
def test_blocks_lie_as_glibc_lays_them(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without glibc's cache of small pieces: then nothing comes to lie before these blocks."""
    monkeypatch.setattr(heap, "TAKEN", 0.0)
    events = random_events(seed)
    done = subprocess.run(
        [sys.executable, "-c", REAL],
        input=json.dumps(events),
        env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert size_after(events) == pytest.approx(int(done.stdout), rel=0.15)


def test_blocks_never_share_bytes_and_holes_are_filled() -> None:
    made, alive = Heap(), 0
    most = 0
    sizes: dict[int, int] = {}
    for block, size in random_events(7):
        if size:
            made.take(block, size)
        else:
            made.give(block)
        sizes[block] = size
        alive = sum(sizes.values())
        most = max(most, alive)
        places = sorted(made._used.values())
        assert all(one[0] + one[1] <= other[0] for one, other in pairwise(places))
    assert most <= made.size < 3 * most


def test_what_is_taken_before_a_block_makes_the_heap_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    events = random_events(3)
    found = []
    for share in (0.0, 0.2, 1.0):
        monkeypatch.setattr(heap, "TAKEN", share)
        found.append(size_after(events))
    assert found[0] < found[1] < found[2]


def test_a_heap_holds_weights_states_and_the_blocks_of_a_step() -> None:
    step = [(1, 10_000_000), (2, 5_000_000), (1, 0)]
    first, after = heap_sizes(step, 100_000_000, [20_000_000, 20_000_000])
    assert first == pytest.approx(155_000_000, rel=0.01)  # states are made at the end of the first step
    assert first <= after < 165_000_000


def test_holes_are_counted_where_they_are_kept_and_nowhere_else(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "is_glibc", lambda: True)
    kept, given_back = (
        SFTConfig(model_name_or_path=str(tiny_model_folder), max_length=64, keep_cpu_memory=keep)
        for keep in (True, False)
    )
    machine, gpu = (Place(kind, "a machine of the test", 10**12, 10**12) for kind in ("cpu", "cuda"))
    here, without, there = (
        find_fit(config, ALONE, place)[0].estimate
        for config, place in ((kept, machine), (given_back, machine), (kept, gpu))
    )
    assert here.peak.parts["holes"] > 0
    assert here.peak.total == without.peak.total + here.peak.parts["holes"]
    assert "holes" not in without.peak.parts | there.peak.parts
    two = find_fit(kept, AskedStrategy("DDP", 2), machine)[0].estimate
    assert any("leaves holes" in note for note in two.notes)
    assert not any("leaves holes" in note for note in here.notes)


def test_giving_memory_back_is_the_smallest_change_on_a_cpu(
    tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "is_glibc", lambda: True)
    config = SFTConfig(model_name_or_path=str(tiny_model_folder), max_length=64)
    _, found = find_fit(config, ALONE, Place("cpu", "a machine of the test", 1000, 1000))
    assert dict(found[0].change) == {"keep_cpu_memory": False}
