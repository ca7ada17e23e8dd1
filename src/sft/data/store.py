"""Examples as flat arrays on disk, mapped into memory: any number of them, no Python object per row.

A store is a folder of ``.npy`` files; example ``i`` is ``ids[offsets[i]:offsets[i + 1]]`` and that slice of the mask.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sft.data.runs import Run
from sft.data.types import Example, Ids, Mask, Source, Weights

PLACES = "places.json"


class StoreWriter:
    """Collects examples in memory; a ``GrowingStore`` takes them to disk."""

    def __init__(self) -> None:
        self._ids = array("i")
        self._mask = bytearray()
        self._weights = array("f")
        """Of the tokens up to the last weighted example; empty where none is weighted."""
        self._offsets = array("q", [0])
        self._origin = array("i")
        self._line = array("q")
        self._turn = array("i")
        self._paths: dict[tuple[str, str], int] = {}

    def add(self, example: Example) -> None:
        """Append one example."""
        self._ids.frombytes(np.ascontiguousarray(example.input_ids, dtype=np.int32).tobytes())
        self._mask += np.ascontiguousarray(example.loss_mask, dtype=np.uint8).data
        if example.weights is not None:
            self._weights.extend([1.0] * (self._offsets[-1] - len(self._weights)))
            self._weights.frombytes(np.ascontiguousarray(example.weights, dtype=np.float32).tobytes())
        self._offsets.append(len(self._ids))
        self._origin.append(self._origin_of(example.source))
        self._line.append(example.source.line)
        self._turn.append(-1 if example.turn is None else example.turn)

    def extend(self, run: Run) -> None:
        """Append many examples."""
        start = self._offsets[-1]
        self._ids.frombytes(np.ascontiguousarray(run.ids, dtype=np.int32).tobytes())
        self._mask += np.ascontiguousarray(run.mask, dtype=np.uint8).data
        self._offsets.frombytes((run.offsets[1:] + (start - run.offsets[0])).tobytes())
        sources = [conversation.source for conversation in run.conversations]
        self._origin.extend([self._origin_of(source) for source in sources])
        self._line.extend([source.line for source in sources])
        self._turn.frombytes(np.ascontiguousarray(run.turns, dtype=np.int32).tobytes())

    def _origin_of(self, source: Source) -> int:
        return self._paths.setdefault((source.path, source.unit), len(self._paths))

    @property
    def num_tokens(self) -> int:
        """Tokens so far."""
        return len(self._ids)

    def counts(self) -> tuple[int, int, int]:
        """Examples, tokens and trained tokens so far."""
        return len(self._line), len(self._ids), int(np.frombuffer(self._mask, np.uint8).sum(dtype=np.int64))

    def last_trained(self) -> npt.NDArray[np.int32]:
        """The ids that end trained stretches, each once. The first token of an example is never trained."""
        mask = np.frombuffer(self._mask, np.uint8)
        ends = np.flatnonzero((mask[:-1] == 1) & (mask[1:] == 0))
        last = [len(mask) - 1] if len(mask) and mask[-1] else []
        return np.unique(np.frombuffer(self._ids, np.int32)[[*ends, *last]])

    @property
    def paths(self) -> list[tuple[str, str]]:
        """What the numbers in ``origin`` stand for: files or hub data sets, each with what it counts."""
        return list(self._paths)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What a store keeps, by the name of the file."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "ids": np.frombuffer(self._ids, np.int32),
            "mask": np.frombuffer(self._mask, np.uint8),
            "offsets": np.frombuffer(self._offsets, np.int64),
            "origin": np.frombuffer(self._origin, np.int32),
            "line": np.frombuffer(self._line, np.int64),
            "turn": np.frombuffer(self._turn, np.int32),
        }
        if self._weights:
            missing = np.ones(self._offsets[-1] - len(self._weights), np.float32)
            arrays["weights"] = np.concatenate([np.frombuffer(self._weights, np.float32), missing])
        return arrays


SCANNED = 1 << 24
"""Tokens looked through at a time."""


class ExampleStore:
    """Reads what ``StoreWriter`` wrote. ``store[i]`` is an ``Example`` without its text."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ids: Ids = _mapped(folder / "ids.npy")
        self._mask: Mask = _mapped(folder / "mask.npy")
        weights = folder / "weights.npy"
        self._weights: Weights | None = _mapped(weights) if weights.exists() else None
        self.offsets: npt.NDArray[np.int64] = np.load(folder / "offsets.npy", allow_pickle=False)
        self._origin = np.load(folder / "origin.npy", allow_pickle=False)
        self._line = np.load(folder / "line.npy", allow_pickle=False)
        self._turn = np.load(folder / "turn.npy", allow_pickle=False)
        self._places = json.loads((folder / PLACES).read_text(encoding="utf-8"))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        start, stop = self.offsets[index], self.offsets[index + 1]
        turn = int(self._turn[index])
        return Example(
            input_ids=self._ids[start:stop],
            loss_mask=self._mask[start:stop],
            weights=None if self._weights is None else self._weights[start:stop],
            text="",
            source=self.source(index),
            turn=None if turn < 0 else turn,
        )

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    def tokens_among(self, wanted: Iterable[int]) -> set[int]:
        """Those of the token ids that stand in any example."""
        left = np.unique(np.array(list(wanted), dtype=np.int64))
        found: set[int] = set()
        for start in range(0, len(self._ids), SCANNED):
            here = np.isin(left, self._ids[start : start + SCANNED])
            found |= {int(token) for token in left[here]}
            left = left[~here]
            if not len(left):
                break
        return found

    def source(self, index: int) -> Source:
        """Where example ``index`` came from."""
        path, unit = self._places[self._origin[index]]
        return Source(path, int(self._line[index]), unit)

    def count_by_path(self) -> dict[str, int]:
        """Examples per file or hub data set, in the order they were first seen."""
        counts = np.bincount(self._origin, minlength=len(self._places))
        totals: dict[str, int] = {}
        for (path, _unit), count in zip(self._places, counts, strict=True):
            totals[path] = totals.get(path, 0) + int(count)
        return totals

    def figures_by_path(self, trained: npt.NDArray[np.int64] | None = None) -> dict[str, tuple[int, int, int]]:
        """Examples, tokens and trained tokens per file or hub data set, in the order they were first seen.

        Args:
            trained: trained tokens of every example, shape (examples,); None: they are given as 0.
        """
        most = len(self._places)
        counts = np.bincount(self._origin, minlength=most)
        tokens = np.bincount(self._origin, weights=self.lengths, minlength=most)
        learnt = np.zeros(most) if trained is None else np.bincount(self._origin, weights=trained, minlength=most)
        totals: dict[str, tuple[int, int, int]] = {}
        for (path, _unit), *here in zip(self._places, counts, tokens, learnt, strict=True):
            before = totals.get(path, (0, 0, 0))
            totals[path] = (before[0] + int(here[0]), before[1] + int(here[1]), before[2] + int(here[2]))
        return totals

    def trained_lengths_of(self, number: int) -> npt.NDArray[np.int64]:
        """Trained tokens of the first so many examples, shape (number,); each has at least one token."""
        mask = self._mask[: self.offsets[number]]
        starts = self.offsets[:number]
        return np.add.reduceat(mask, starts, dtype=np.int64) if number else np.zeros(0, np.int64)

    @property
    def weighted(self) -> bool:
        """Whether any token counts for more or less than one."""
        return self._weights is not None

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per example, shape (examples,)."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def lengths_to_last_trained(self) -> npt.NDArray[np.int64]:
        """Tokens per example up to its last trained one, at least 1, shape (examples,)."""
        starts, ends = self.offsets[:-1], self.offsets[1:].copy()
        left = np.arange(len(self))
        while len(left):  # as often as the longest tail has tokens, over ever fewer examples
            left = left[(ends[left] - starts[left] > 1) & (self._mask[ends[left] - 1] == 0)]
            ends[left] -= 1
        return np.asarray(ends - starts, np.int64)

    @property
    def trained_lengths(self) -> npt.NDArray[np.int64]:
        """Trained tokens per example, shape (examples,)."""
        running = np.concatenate([[0], np.cumsum(self._mask, dtype=np.int64)])
        return np.asarray(running[self.offsets[1:]] - running[self.offsets[:-1]], np.int64)


def _mapped(path: Path) -> npt.NDArray[Any]:
    """Map an array; an empty one cannot be mapped and is read."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except ValueError:
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
