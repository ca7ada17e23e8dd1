"""Three fixed lists of lengths, and rows of random tokens that have them.

``lengths.json`` is the list that every contestant gets, in its order. It was drawn once by ``draw_lengths``:

    alpaca   log-normal, mean 132 tokens, at most 1,024: short instructions
    mixed    log-normal, mean 900, at most 8,192: chats
    long     documents of 16,384 and 32,768
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("lengths.json")
TRAINED_SHARE = 0.56
UNTRAINED = -100


@dataclass(frozen=True)
class RowList:
    """How a list is cut into steps."""

    name: str
    pack_length: int
    """Slots of a packed row, and the longest document."""
    packs_per_step: int
    rows_per_step: int
    """Documents of a step where they are padded; about as many tokens as the packed rows of a step have."""
    rows_per_forward: int
    trained_share: float


LISTS = {
    one.name: one
    for one in (
        RowList("alpaca", 4096, 4, 124, 31, TRAINED_SHARE),
        RowList("mixed", 8192, 2, 18, 3, TRAINED_SHARE),
        RowList("long16k", 16_384, 1, 1, 1, 1.0),
        RowList("long32k", 32_768, 1, 1, 1, 1.0),
        RowList("smoke", 128, 2, 8, 4, TRAINED_SHARE),
    )
}


def draw_lengths(seed: int = 0) -> dict[str, list[int]]:
    """The lists as they were drawn."""
    generator = random.Random(seed)

    def log_normal(count: int, mean: float, sigma: float, least: int, most: int) -> list[int]:
        """Drawn until the clipped list has the mean, within a hundredth."""
        center = math.log(mean) - sigma * sigma / 2
        normals = [generator.gauss(0, sigma) for _ in range(count)]
        for _ in range(60):
            lengths = [min(most, max(least, round(math.exp(center + one)))) for one in normals]
            center += math.log(mean / (sum(lengths) / count))
        return lengths

    return {
        "alpaca": log_normal(4000, 132, 0.7, 16, 1024),
        "mixed": log_normal(600, 900, 0.9, 32, 8192),
        "long16k": [16_384] * 30,
        "long32k": [32_768] * 30,
        "smoke": log_normal(64, 24, 0.5, 8, 100),
    }


def read_lengths(name: str) -> list[int]:
    """One list, in its order."""
    lengths: list[int] = json.loads(FILE.read_text(encoding="utf-8"))[name]
    return lengths


def make_rows(name: str, vocabulary: int) -> Iterator[dict[str, list[int]]]:
    """``input_ids`` and ``labels`` of every row; the last part of a row is trained, as an answer is."""
    generator = random.Random(name)
    for length in read_lengths(name):
        ids = [generator.randrange(8, vocabulary) for _ in range(length)]
        first = min(length - 1, round(length * (1 - LISTS[name].trained_share)))
        yield {"input_ids": ids, "labels": [UNTRAINED] * first + ids[first:]}


def write_rows(name: str, vocabulary: int, path: Path) -> None:
    """As JSON lines, which every contestant can read."""
    with path.open("w", encoding="utf-8") as file:
        for row in make_rows(name, vocabulary):
            file.write(json.dumps(row) + "\n")
