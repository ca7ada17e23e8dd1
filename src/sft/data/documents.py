"""Where the documents of a batch stand, by length, for attention that looks at each alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ROUNDING = 8
"""Lengths are rounded up in steps of an eighth of the power of two below them: at most 14 % is filled up."""

NOWHERE = -1

PADDING_PIECE = 64
"""Padding is cut into pieces of so many slots, where attention looks at it too."""


class Documents(TypedDict):
    """Documents of about the same length share a bucket, filled up to its size. Tensors are int64, but ``bounds``."""

    slots: list[Tensor]
    """One (documents, size) for each bucket: slots of the flattened batch; where it is filled up, any."""

    places: Tensor
    """(batch * seq,): where each slot stands in the buckets, one bucket after the other; for padding, any."""

    filled_up: Tensor
    """Places in the buckets that are filled up."""

    padding: Tensor
    """Slots that are in no document."""

    bounds: Tensor
    """int32 (pieces + 1,): where pieces of the flattened batch begin, and its end. Pieces are documents, and short ones
    of padding."""

    longest: int
    """Slots of the longest piece. A plain number, so that nothing waits for a device."""


def find_documents(num_slots: int, spans: Sequence[tuple[int, int]]) -> Documents:
    """Documents by length.

    Args:
        num_slots: batch * seq.
        spans: first slot and length of each document in the flattened batch; slots in none are padding. A batch of
            nothing but padding counts as one document, for attention needs something to look at.
    """
    buckets: dict[int, list[tuple[int, int]]] = {}
    for start, length in spans or [(0, num_slots)]:
        if length:
            buckets.setdefault(rounded(length), []).append((start, length))
    slots: list[npt.NDArray[np.int64]] = []
    places = np.full(num_slots, NOWHERE, np.int64)
    offset = 0
    for size in sorted(buckets):
        starts, lengths = np.array(buckets[size], np.int64).T
        steps = np.arange(size)
        chosen = np.where(steps < lengths[:, None], starts[:, None] + steps, NOWHERE)
        inside = np.flatnonzero(chosen != NOWHERE)
        places[chosen.flat[inside]] = offset + inside
        slots.append(chosen)
        offset += chosen.size
    bounds = find_bounds(num_slots, spans)
    everywhere = np.concatenate([np.empty(0, np.int64), *(chosen.ravel() for chosen in slots)])
    return Documents(
        slots=[torch.from_numpy(np.maximum(chosen, 0)) for chosen in slots],
        places=torch.from_numpy(np.maximum(places, 0)),
        filled_up=torch.from_numpy(np.flatnonzero(everywhere == NOWHERE)),
        padding=torch.from_numpy(np.flatnonzero(places == NOWHERE)),
        bounds=torch.from_numpy(bounds),
        longest=int(np.diff(bounds).max()),
    )


def find_bounds(num_slots: int, spans: Sequence[tuple[int, int]]) -> npt.NDArray[np.int32]:
    """Where documents begin, and the padding between them in pieces, and where it all ends."""
    found = [0]
    for start, length in [*sorted(spans), (num_slots, 0)]:
        found += [*range(found[-1] + PADDING_PIECE, start, PADDING_PIECE), start, start + length]
    return np.unique(np.array(found, np.int32))


def rounded(length: int) -> int:
    """The size of the bucket for a length."""
    step = max(1, (1 << (length - 1).bit_length()) // (2 * ROUNDING))
    return -(-length // step) * step
