"""How large a heap becomes where the C library keeps what is freed: a step's blocks, laid out as glibc lays them out.

A block takes the smallest hole that it fits into, and holes that touch become one (malloc, best fit with coalescing).
PyTorch asks for blocks that begin at a multiple of 64 bytes: glibc looks for ``SLACK`` bytes more and gives back what
lies before and behind. Now and then something small and lasting takes the bytes before a block; then the hole that the
block leaves is too small for the next block of the same size. How often is measured, not derived
(docs/measurements.md).
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Sequence

SLACK = 96
"""Bytes by which a hole must be larger than a block that is to begin at a multiple of 64: a smallest chunk more."""

BEFORE = 48
"""Bytes of them that lie before the block, about."""

TAKEN = 0.2
"""Share of blocks before which something lasting comes to lie: small objects, or what glibc's cache of small pieces
holds. Fitted to seven runs; others are beside it in docs/measurements.md."""

STEPS = 3
"""After so many steps a heap grows little more."""

Event = tuple[int, int]
"""A block by its number and its bytes; 0 bytes: it is freed."""


class Heap:
    """Addresses of blocks. Memory that was in use once stays with the process."""

    def __init__(self) -> None:
        self.size = 0
        """The most bytes so far."""
        self._top = 0
        self._holes: list[tuple[int, int]] = []
        """Length and beginning, by length."""
        self._by_start: dict[int, int] = {}
        self._by_end: dict[int, int] = {}
        self._used: dict[Hashable, tuple[int, int]] = {}
        self._chance = random.Random(0)

    def take(self, block: Hashable, size: int) -> None:
        """A block is made."""
        place = bisect_left(self._holes, (size + SLACK, 0))
        if place < len(self._holes):
            length, start = self._holes[place]
            self._forget(start, length)
        else:
            length, start = size + SLACK, self._top
            self._top += length
            self.size = max(self.size, self._top)
        end = start + BEFORE + size
        begin = start + BEFORE if self._chance.random() < TAKEN else start
        self._used[block] = (begin, end - begin)
        self._leave(end, start + length - end)

    def give(self, block: Hashable) -> None:
        """A block is freed; one that is not known was made elsewhere."""
        if block in self._used:
            self._leave(*self._used.pop(block))

    def _leave(self, start: int, length: int) -> None:
        """Bytes become a hole, together with those that they touch."""
        before = self._by_end.get(start)
        if before is not None:
            self._forget(start - before, before)
            start, length = start - before, length + before
        behind = self._by_start.get(start + length)
        if behind is not None:
            self._forget(start + length, behind)
            length += behind
        if start + length == self._top:
            self._top = start
            return
        insort(self._holes, (length, start))
        self._by_start[start] = self._by_end[start + length] = length

    def _forget(self, start: int, length: int) -> None:
        del self._holes[bisect_left(self._holes, (length, start))], self._by_start[start], self._by_end[start + length]


def heap_sizes(step: Sequence[Event], before: int, states: Iterable[int]) -> tuple[int, int]:
    """Bytes of the heap after the first step, and after ``STEPS``.

    Args:
        step: the blocks of one step; those that it leaves are freed at its end.
        before: bytes of what stays from the beginning, the weights.
        states: of each tensor that the optimizer makes in its first step.
    """
    heap = Heap()
    heap.take("weights", before)
    first = 0
    for number in range(STEPS):
        left: set[tuple[int, int]] = set()
        for block, size in step:
            key = (number, block)
            if size:
                heap.take(key, size)
                left.add(key)
            else:
                heap.give(key)
                left.discard(key)
        if number == 0:
            for place, size in enumerate(states):  # before the gradients are freed, among the holes of the activations
                heap.take(("states", place), size)
            first = heap.size
        for key in sorted(left):
            heap.give(key)
    return first, heap.size
