"""Putting examples together: encoded holes and fixed tokens, taken from one pool of ids, for many rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sft.data.byte_bpe import EncodedTexts
from sft.data.runs import NO_TURN, Run
from sft.data.shapes import Filled, Fixed, Hole, Shape
from sft.data.types import Conversation

Numbers = npt.NDArray[np.int64]
NOTHING: Numbers = np.empty(0, np.int64)
Encode = Callable[[Sequence[str]], EncodedTexts]


class Stretch(NamedTuple):
    """Tokens that are trained or not as one."""

    kind: Literal["fixed", "whole", "head", "rest"]
    """The same in every row; or of a text of the row: all of it, the prompt that it begins with, what follows that."""
    text: int = -1
    """Which text of the row."""
    ids: tuple[int, ...] = ()
    """Those that are fixed, or those of the prompt."""
    prompt: int | None = None
    """Which text of the row is the prompt, where rows have different ones."""
    is_trained: bool = False


class Plan:
    """What the examples of one shape are put together of.

    Args:
        shape: as it was learnt.
        encode: texts -> ids.
    """

    def __init__(self, shape: Shape, encode: Encode) -> None:
        self.shape = shape
        self.texts: list[Filled] = []
        """What has to be encoded for each row."""
        self.prompts: list[tuple[int, tuple[int, ...], int | None]] = []
        """Texts that must begin with the ids of a prompt: the text, the prompt's ids, or else its text."""
        examples = [[*self._stretches(example.parts, encode)] for example in shape]
        self.stretches = [stretch for example in examples for stretch in example]
        self.first_stretches = np.cumsum([0, *map(len, examples)])[:-1]
        """Which stretch each example begins with."""
        self.turns = np.array([NO_TURN if example.turn is None else example.turn for example in shape], np.int32)
        self.is_trained = np.array([stretch.is_trained for stretch in self.stretches], np.uint8)

    def _stretches(self, parts: Sequence[Fixed | Hole], encode: Encode) -> Iterator[Stretch]:
        for part in parts:
            if isinstance(part, Fixed):
                yield from _fixed_stretches(part)
                continue
            text = len(self.texts)
            self.texts.append(part.text)
            if part.prompt is None:
                yield Stretch("whole", text, is_trained=part.is_trained)
                continue
            prompt, ids = None, tuple(encode([part.prompt.literals[0]]).ids.tolist())
            if part.prompt.messages:
                prompt, ids = len(self.texts), ()
                self.texts.append(part.prompt)
            self.prompts.append((text, ids, prompt))
            yield Stretch("head", text, ids, prompt)
            yield Stretch("rest", text, ids, prompt, is_trained=part.is_trained)

    def begin_with_prompts(self, first: Numbers, pool: Pool) -> npt.NDArray[np.bool_]:
        """Which rows have texts that begin with the ids of their prompts.

        Args:
            first: number of each row's first text.
        """
        fine = np.ones(len(first), np.bool_)
        for text, ids, prompt in self.prompts:
            if prompt is None:
                fine &= pool.begin_with(first + text, ids)
            else:
                fine &= pool.begin_with_texts(first + text, first + prompt)
        return fine

    def places(self, first: Numbers, pool: Pool) -> tuple[Numbers, Numbers]:
        """Where in the pool each stretch of each row begins, and its length: two arrays (rows, stretches)."""
        starts = np.empty((len(first), len(self.stretches)), np.int64)
        lengths = np.empty_like(starts)
        for number, (kind, text, ids, prompt, _) in enumerate(self.stretches):
            if kind == "fixed":
                starts[:, number], lengths[:, number] = pool.place_of(ids), len(ids)
                continue
            start, length = pool.starts[first + text], pool.lengths[first + text]
            head = len(ids) if prompt is None else pool.lengths[first + prompt]
            starts[:, number] = start + head if kind == "rest" else start
            lengths[:, number] = {"whole": length, "head": head, "rest": length - head}[kind]
        return starts, lengths


def _fixed_stretches(part: Fixed) -> Iterator[Stretch]:
    start = 0
    for place in range(1, len(part.ids) + 1):
        if place == len(part.ids) or part.mask[place] != part.mask[start]:
            yield Stretch("fixed", ids=part.ids[start:place], is_trained=bool(part.mask[start]))
            start = place


class Pool:
    """Ids to take stretches from: those of encoded texts, and behind them fixed ones."""

    def __init__(self, encoded: EncodedTexts) -> None:
        self.lengths = encoded.lengths
        self.starts = np.cumsum(encoded.lengths) - encoded.lengths
        self._ids = [encoded.ids]
        self._num_ids = len(encoded.ids)
        self._places: dict[tuple[int, ...], int] = {}

    @property
    def ids(self) -> npt.NDArray[np.int32]:
        """All of them."""
        if len(self._ids) > 1:
            self._ids = [np.concatenate(self._ids)]
        return self._ids[0]

    def place_of(self, ids: tuple[int, ...]) -> int:
        """Where fixed ids stand; they are put behind the others where they are new."""
        if ids not in self._places:
            self._places[ids] = self._num_ids
            self._ids.append(np.array(ids, np.int32))
            self._num_ids += len(ids)
        return self._places[ids]

    def begin_with(self, texts: Numbers, ids: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """Which texts begin with these ids."""
        fine = np.asarray(self.lengths[texts] >= len(ids))
        for place, token in enumerate(ids):
            fine[fine] = self.ids[self.starts[texts[fine]] + place] == token
        return fine

    def begin_with_texts(self, texts: Numbers, heads: Numbers) -> npt.NDArray[np.bool_]:
        """Which texts begin with the ids of others."""
        ids, starts, lengths = self.ids, self.starts, self.lengths
        return np.array(
            [
                np.array_equal(
                    ids[starts[text] : starts[text] + min(lengths[text], lengths[head])],
                    ids[starts[head] : starts[head] + lengths[head]],
                )
                for text, head in zip(texts, heads, strict=True)
            ],
            np.bool_,
        )

    def take(self, starts: Numbers, lengths: Numbers) -> npt.NDArray[np.int32]:
        """Stretches of the pool, one after the other."""
        before = np.cumsum(lengths) - lengths
        places = np.repeat(starts - before, lengths)
        places += np.arange(len(places))
        return np.asarray(self.ids[places])


@dataclass(frozen=True, slots=True)
class Assembled:
    """A batch of conversations, those of them put together that could be."""

    conversations: Sequence[Conversation]
    run: Run
    """Their examples."""
    before: Numbers
    """Examples before each conversation, and at last all of them, shape (conversations + 1,)."""

    def left_over(self) -> list[int]:
        """Conversations that have no example here."""
        return [int(place) for place in np.flatnonzero(np.diff(self.before) == 0)]

    def run_of(self, start: int, stop: int) -> Run:
        """The examples of some of the conversations."""
        num_split = int((np.diff(self.before[start : stop + 1]) > 1).sum())
        return self.run.part(int(self.before[start]), int(self.before[stop]), num_split)


def assemble(
    conversations: Sequence[Conversation], rows: Mapping[Plan, Numbers], firsts: Numbers, pool: Pool
) -> Assembled:
    """Put examples together.

    Args:
        rows: by their plan, which of the conversations it is done for.
        firsts: number of each conversation's first text in the pool.
    """
    num_examples, num_stretches = np.zeros((2, len(conversations)), np.int64)
    for plan, places in rows.items():
        num_examples[places], num_stretches[places] = len(plan.turns), len(plan.stretches)
    before, stretches_before = (np.concatenate([[0], np.cumsum(counts)]) for counts in (num_examples, num_stretches))
    starts, lengths = np.empty((2, stretches_before[-1]), np.int64)
    is_trained = np.empty(len(starts), np.uint8)
    turns = np.empty(before[-1], np.int32)
    first_stretches = np.empty(before[-1], np.int64)
    for plan, places in rows.items():
        at = stretches_before[places][:, None] + np.arange(len(plan.stretches))
        starts[at], lengths[at] = plan.places(firsts[places], pool)
        is_trained[at] = plan.is_trained
        examples = before[places][:, None] + np.arange(len(plan.turns))
        turns[examples] = plan.turns
        first_stretches[examples] = stretches_before[places][:, None] + plan.first_stretches
    ends = np.concatenate([[0], np.cumsum(lengths)])
    offsets = np.append(ends[first_stretches], ends[-1])
    mask = np.repeat(is_trained, lengths)
    mask[offsets[:-1]] = 0  # nothing comes before it that it could be predicted from
    made = [conversations[place] for place in np.repeat(np.arange(len(conversations)), num_examples).tolist()]
    return Assembled(conversations, Run(pool.take(starts, lengths), mask, offsets, turns, made), before)
