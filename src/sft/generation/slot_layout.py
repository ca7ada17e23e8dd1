"""How many slots there are, and how many columns: what fits into a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Request(NamedTuple):
    """What is asked."""

    ids: Sequence[int]
    room: int
    """Most tokens of the answer, the stop token included."""


class Need(NamedTuple):
    """One row, in slots or waiting for one."""

    tokens: int
    """Columns it holds, or will hold when it comes."""

    remaining: int
    """Tokens it may still write."""


class Layout(NamedTuple):
    """The shape of the buffers."""

    slots: int
    columns: int
    clock: int
    """The column that is written first."""


class Limits(NamedTuple):
    """What the buffers may not exceed."""

    slots: int
    tokens: int
    """Bound on slots x columns; a row that exceeds it alone has one slot. Prompts read ahead come on top."""

    spare: int = 256
    """Columns beyond what the longest row needs, a quarter of that at most; so rarely are rows moved."""


def plan_layout(needs: Iterable[Need], limits: Limits) -> Layout:
    """Buffers in which every one of these rows fits, and all of them, a few at a time, find a place.

    The clock stands where the longest of them ends; after ``columns - clock`` steps the rows in slots are moved back.
    """
    needs = list(needs)
    clock = max(need.tokens for need in needs)
    enough = max(need.tokens + need.remaining for need in needs)
    columns = max(enough, clock + 1) + min(limits.spare, max(64, enough // 4))
    slots = max(1, min(limits.slots, limits.tokens // columns, len(needs)))
    return Layout(slots, columns, clock)
