"""Fourth hop: which examples share a row. Works on lengths alone, so it needs neither tokens nor tensors."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from sft.data.types import Pack


def pack_examples(lengths: Sequence[int], capacity: int) -> list[Pack]:
    """Choose which examples share a row: best fit, longest first (Johnson 1973, "best-fit decreasing").

    Each example goes to the row whose remaining space it fills most tightly; a new row is opened only when none
    can take it. Equal lengths keep their order, so the result is a function of the input only.

    Args:
        lengths: tokens per example, each between 1 and ``capacity``.
        capacity: tokens per row.

    Returns:
        One list of example positions per row. Every position appears exactly once and no row exceeds ``capacity``.

    Raises:
        ValueError: a length is outside 1..capacity.
    """
    packs: list[Pack] = []
    spaces: list[int] = []  # distinct remaining spaces that some row has, ascending
    rows_by_space: dict[int, list[int]] = {}
    lengths = [int(length) for length in lengths]  # numbers of an array are slow to compare
    for position in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[position]
        if not 1 <= length <= capacity:
            raise ValueError(f"example {position} has {length} tokens; a row of {capacity} takes 1 to {capacity}")
        tightest = bisect_left(spaces, length)
        if tightest == len(spaces):
            row, space = len(packs), capacity
            packs.append([])
        else:
            space = spaces[tightest]
            row = rows_by_space[space].pop()
            if not rows_by_space[space]:
                del rows_by_space[space], spaces[tightest]
        packs[row].append(position)
        left = space - length
        if left and left not in rows_by_space:
            insort(spaces, left)
        if left:
            rows_by_space.setdefault(left, []).append(row)
    return packs


def pack_in_order(lengths: Sequence[int], capacity: int) -> list[Pack]:
    """The same, with examples in the order given: each row takes the next ones until one does not fit ("next fit")."""
    packs: list[Pack] = []
    left = 0
    for position, length in enumerate(lengths):
        if not 1 <= length <= capacity:
            raise ValueError(f"example {position} has {length} tokens; a row of {capacity} takes 1 to {capacity}")
        if length > left:
            packs.append([])
            left = capacity
        packs[-1].append(position)
        left -= length
    return packs


def packing_efficiency(lengths: Sequence[int], packs: Sequence[Pack], capacity: int) -> float:
    """Share of the rows' slots that hold a token, between 0 and 1."""
    slots = len(packs) * capacity
    return sum(lengths) / slots if slots else 0.0
