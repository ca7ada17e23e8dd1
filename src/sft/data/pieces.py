"""A piece of the data: as many rows as are prepared in memory at one go, from ``Item`` to ``Example``.

A piece ends after a fixed number of characters or rows, so that the same rows are always cut into the same pieces.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.census import num_characters
from sft.data.conversations import Item
from sft.data.lanes import Lane
from sft.data.making import make_examples, make_in_full, make_renderer
from sft.data.report import DataReport
from sft.data.runs import Run
from sft.data.store import StoreWriter
from sft.data.types import BadRow, Conversation

PIECE_CHARACTERS = 1 << 25
PIECE_ROWS = 1 << 17
"""Where a piece ends."""

COUNTED_ROWS = 1024
Count = Callable[[int, int], None]


def ignore(rows: int, characters: int) -> None:
    """Nobody looks on."""


@dataclass
class Piece:
    """What became of some rows."""

    lane: int
    """Which lane of the reading they are of."""
    last_row: int
    """Rows of the lane up to the end of the piece."""
    read: DataReport
    """The rows, as they were read."""
    made: DataReport
    """The conversations, as they were rendered."""
    answer_kwargs: list[str]
    """Template variables that answers were written with."""
    arrays: Mapping[str, npt.NDArray[Any]]
    """The examples, as the store keeps them."""
    paths: Sequence[tuple[str, str]]
    """What their ``origin`` counts."""

    def entry(self) -> dict[str, Any]:
        """The account of it for the journal."""
        return {
            "lane": self.lane,
            "last_row": self.last_row,
            "read": self.read.to_dict(),
            "made": self.made.to_dict(),
            "answer_kwargs": self.answer_kwargs,
        }


class PieceMaker:
    """Prepares pieces for one config.

    Args:
        in_full: render each conversation by itself, where shapes cannot be trusted.
        threads: that encode; None: one for each core.
        most_rows: of a piece, if fewer than ``PIECE_ROWS``.
    """

    def __init__(
        self,
        config: SFTConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        in_full: bool = False,
        threads: int | None = None,
        most_rows: int | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.in_full = in_full
        self.most_rows = min(PIECE_ROWS, most_rows or PIECE_ROWS)
        self.renderer = make_renderer(config, tokenizer)
        self._special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        threads = threads or os.cpu_count() or 1
        self._make = make_in_full(config, self.renderer) if in_full else make_examples(config, self.renderer, threads)

    def pieces_of(
        self,
        lane: Lane,
        number: int,
        *,
        skip: int = 0,
        bad_before: int = 0,
        count: Count = lambda rows, characters: None,
    ) -> Iterator[Piece]:
        """All pieces of a lane, in order.

        Args:
            number: of the lane.
            skip: rows of it that are prepared already.
            bad_before: rows that could not be read before; past ``max_bad_rows`` further ones are only counted.
            count: is told of rows and their characters every so often.

        Raises:
            Differs: see ``render_by_shape``.
        """
        formats: dict[str, str] = {}
        items = islice(lane.read(formats), skip, None)
        last_row = skip
        while True:
            read, made = DataReport(formats=formats), DataReport()
            examples = StoreWriter()
            for one in self._make(self._conversations(items, read, bad_before, count), made):
                if isinstance(one, Run):
                    examples.extend(one)
                else:
                    examples.add(one)
            if not read.rows:
                return
            made.examples, made.tokens, made.trained_tokens = examples.counts()
            made.stop_token_ids = made.stop_token_ids or sorted(self._special & {*examples.last_trained().tolist()})
            last_row += read.rows
            bad_before += read.rejected.total()
            yield Piece(number, last_row, read, made, self.renderer.answer_kwargs, examples.arrays(), examples.paths)

    def _conversations(self, items: Iterator[Item], read: DataReport, bad: int, count: Count) -> Iterator[Conversation]:
        """The conversations of the next piece; every row is entered into ``read``."""
        characters = told = 0
        for item in items:
            read.rows += 1
            if isinstance(item, BadRow):
                read.reject(item)
                bad += 1
            else:
                read.conversations += 1
                characters += num_characters(item)
                if bad <= self.config.max_bad_rows:
                    yield item
            if not read.rows % COUNTED_ROWS:
                count(COUNTED_ROWS, characters - told)
                told = characters
            if characters >= PIECE_CHARACTERS or read.rows == self.most_rows:
                break
        count(read.rows % COUNTED_ROWS, characters - told)
