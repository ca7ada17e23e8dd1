"""The contamination guard: which training rows hold what an evaluation is going to ask.

A row overlaps with an evaluated example when it is the same row (same id), when one of its texts equals a text of the
example that identifies it (``Task.telling_inputs``) or, for a question of six words or more, holds it word for word, or
when at least half of the example's word 13-grams stand in it (the n-gram length of GPT-3's contamination study,
https://arxiv.org/abs/2005.14165, appendix C). Words that the task itself writes around its rows are left out: only what
the data set says counts.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft.tasks.task import Task, TaskExample

NGRAM = 13
SHARE = 0.5
"""Of an example's n-grams. Two meetings of one series share a few per cent."""

MIN_HELD = 6
"""Words of the shortest question that is looked for inside of longer texts."""

MIN_WORDS = 4
"""Texts of fewer words ("yes", "What is it?") are asked everywhere; equality of them proves nothing."""

Hashes = npt.NDArray[np.uint64]

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Overlap:
    """Which evaluated task a row overlaps with, and how."""

    task: str
    how: str

    def __str__(self) -> str:
        return f"asked by {self.task} ({self.how})"


class AskedRows:
    """Everything that some tasks will ask, ready to be compared with training rows."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._ids: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._tasks: list[str] = []
        self._held: dict[int, dict[int, str]] = {}
        """Number of words -> hash of a question of so many words -> task."""
        self._held_by = functools.lru_cache(maxsize=64)(self._holds)  # rows in a row often share a long text
        grams: list[Hashes] = []
        for task in tasks:
            for example in task.examples():
                self._ids.setdefault(example.id, task.name)
                for words in filter(_is_telling, map(split_words, task.telling_inputs(example))):
                    self._texts.setdefault(" ".join(words), task.name)
                    if MIN_HELD <= len(words) < NGRAM:
                        whole = int(run_hashes(words, len(words))[0])
                        self._held.setdefault(len(words), {}).setdefault(whole, task.name)
                grams.append(np.unique(run_hashes(_words_of(example), NGRAM)))
                self._tasks.append(task.name)
        self._sizes = np.array([len(hashes) for hashes in grams], np.int64)
        owners = np.repeat(np.arange(len(grams)), self._sizes)
        joined = np.concatenate([np.empty(0, np.uint64), *grams])
        order = np.argsort(joined, kind="stable")
        self._hashes, self._owners = joined[order], owners[order]

    def overlap(self, texts: Sequence[str], *, row_id: str | None = None) -> Overlap | None:
        """Compare one training row, given as its texts; None when it holds nothing that is asked."""
        if row_id is not None and row_id in self._ids:
            return Overlap(self._ids[row_id], "the same row")
        read = [_read(text) for text in texts]
        for words, _ in read:
            known = self._texts.get(" ".join(words))
            if known is not None:
                return Overlap(known, "the same text")
            held = self._held_by(words)
            if held is not None:
                return Overlap(held, "it holds the question")
        return self._shared(np.unique(np.concatenate([np.empty(0, np.uint64), *(hashes for _, hashes in read)])))

    def _holds(self, words: tuple[str, ...]) -> str | None:
        for length, questions in self._held.items():
            for found in set(run_hashes(words, length).tolist()) & questions.keys():
                return questions[found]
        return None

    def _shared(self, hashes: Hashes) -> Overlap | None:
        if not len(self._hashes):
            return None
        first = np.searchsorted(self._hashes, hashes, "left")
        known = self._hashes.take(first, mode="clip") == hashes  # few are: only theirs are counted
        first = first[known]
        counts = np.searchsorted(self._hashes, hashes[known], "right") - first
        places = np.repeat(first, counts) + _ranges(counts)
        hits = np.bincount(self._owners[places], minlength=len(self._sizes))
        shares = hits / np.maximum(self._sizes, 1)
        if not len(shares) or shares.max() < SHARE:
            return None
        return Overlap(self._tasks[int(shares.argmax())], "at least half of its text")


@functools.lru_cache(maxsize=64)
def _read(text: str) -> tuple[tuple[str, ...], Hashes]:
    """The words of a text, and its n-grams; several rows in a row often share a long one."""
    words = tuple(split_words(text))
    return words, np.unique(run_hashes(words, NGRAM))


def split_words(text: str) -> list[str]:
    """Lower-case words without punctuation; a Chinese or Japanese character is a word."""
    return _WORD.findall(text.lower())


def run_hashes(words: Sequence[str], length: int) -> Hashes:
    """A hash of each run of ``length`` words, in order; equal runs have equal hashes within one process."""
    if len(words) < length:
        return np.empty(0, np.uint64)
    single = np.array([hash(word) for word in words], np.int64).view(np.uint64)
    count = len(words) - length + 1
    rolled = np.zeros(count, np.uint64)
    for offset in range(length):
        rolled = rolled * _MULTIPLIER + single[offset : offset + count]
    return rolled


def _words_of(example: TaskExample) -> list[str]:
    return [word for text in example.inputs.values() for word in split_words(text)]


def _is_telling(words: Sequence[str]) -> bool:
    return len(words) >= MIN_WORDS


def _ranges(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0, 1, ... for each count, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
