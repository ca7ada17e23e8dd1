"""Which conversations are trained and which evaluated, chosen by their numbers: 8 bytes each, however long they are.

Conversations are numbered from 0 in the order in which they are read.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sft.errors import DataError

Numbers = npt.NDArray[np.int64]


def weighed(count: int, weight: float, sample: int | None, chance: str) -> Numbers:
    """Which of ``count`` conversations a source gives, in order: all of them for the whole part of its weight, and a
    seeded random share for the rest.

    Args:
        sample: as many conversations in place of ``weight``.
        chance: decides the share.
    """
    weight = weight if sample is None else sample / max(1, count)
    whole = int(weight)
    share = random.Random(chance).sample(range(count), int((weight - whole) * count + 0.5))
    return np.concatenate([np.tile(np.arange(count), whole), np.array(sorted(share), np.int64)])


def without_equals(chosen: Numbers, digests: Sequence[bytes]) -> tuple[Numbers, int]:
    """Keep of equal conversations the first; also how many others there were.

    What a weight repeats is repeated on purpose and stays.

    Args:
        digests: 16 bytes for each conversation there is.
    """
    present = np.unique(chosen)
    said = np.frombuffer(b"".join(digests), "V16")[present]
    firsts = present[np.unique(said, return_index=True)[1]]
    return chosen[np.isin(chosen, firsts)], len(present) - len(firsts)


def choose_some(chosen: Numbers, count: int, seed: int) -> Numbers:
    """A seeded random choice of at most ``count``, in their order."""
    return chosen[sorted(random.Random(seed).sample(range(len(chosen)), min(count, len(chosen))))]


def hold_out(chosen: Numbers, size: float, seed: int) -> tuple[Numbers, Numbers]:
    """Take a seeded random part out for evaluation: a share below 1, else a count.

    A conversation that a weight repeats goes with all its repeats, and is evaluated once; what is left is in the order
    in which each is seen first.

    Raises:
        DataError: nothing would be left to train.
    """
    values, firsts, repeats = np.unique(chosen, return_index=True, return_counts=True)
    order = np.argsort(firsts)
    values, repeats = values[order], repeats[order]
    count = int(size) if size >= 1 else max(1, round(size * len(values)))
    if count >= len(values):
        raise DataError(f"validation_size {size:g} would hold out {count} of {len(values)} rows; none is left to train")
    is_out = np.zeros(len(values), np.bool_)
    is_out[random.Random(seed).sample(range(len(values)), count)] = True
    return np.repeat(values[~is_out], repeats[~is_out]), values[is_out]
