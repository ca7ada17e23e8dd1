"""Which source a trained token is of, and which answer of its example: numbers by which losses are added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
import numpy.typing as npt

from sft.data.types import Example

SOURCES = 16
"""Sources with a figure of their own, those with most examples; the others have one together."""

TURNS = 8
"""Answers of an example with a figure of their own; the last stands for all that follow."""

Groups = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LossGroups:
    """The groups of a run: sources first, then answers."""

    sources: tuple[str, ...]
    _numbers: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_numbers", {path: number for number, path in enumerate(self.sources)})

    @classmethod
    def of(cls, examples_by_path: Mapping[str, int]) -> LossGroups:
        """The groups of data with so many examples of each source."""
        ordered = sorted(examples_by_path, key=lambda path: -examples_by_path[path])
        return cls(tuple(ordered[:SOURCES]))

    @property
    def families(self) -> dict[str, list[str]]:
        """The name under which each group is logged, family by family, in the order of their numbers."""
        turns = [f"loss_of_answer/{number}" for number in range(1, TURNS)]
        return {
            "source": [*(f"loss_of/{name}" for name in short_names(self.sources)), "loss_of/other_sources"],
            "turn": [*turns, f"loss_of_answer/{TURNS}_and_later"],
        }

    def numbers(self, example: Example, trained: npt.NDArray[np.bool_]) -> Groups:
        """Source and answer of each trained token, shape (2, trained); answers of a split conversation have none: -1.

        Args:
            trained: which tokens of the example have a label, shape (length,).
        """
        source = self._numbers.get(example.source.path, len(self.sources))
        begins = trained & ~np.concatenate([[False], trained[:-1]])
        turns = np.minimum(np.cumsum(begins)[trained] - 1, TURNS - 1)
        if example.turn is not None:
            turns = np.full_like(turns, -1)
        return np.stack([np.full_like(turns, source), turns]).astype(np.int64)


def short_names(paths: tuple[str, ...]) -> list[str]:
    """The last part of each path; the whole path where two end alike."""
    ends = [PurePath(path).name or path for path in paths]
    counts = Counter(ends)
    return [end if counts[end] == 1 else path for end, path in zip(ends, paths, strict=True)]
