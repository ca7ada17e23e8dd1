"""A long JSON list, read through a window that moves over it, so that its length does not matter."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from sft.data.sources.json_text import LOST, StrictDecoder

WINDOW = 1 << 24
"""Bytes that are read at one go."""

LONGEST_ROW = 1 << 28
"""Characters after which a row that does not end is taken for a broken one."""

NUMBER_GOES_ON = len("e+")
"""Characters behind a number that may be part of it, if only another one follows."""

_skip_blank = re.compile(r"[ \t\r\n]*").match


class BrokenList(Exception):
    """What cannot be read further: the reader of whole documents says why, with its place."""


def read_list_values(head: bytes, file: BinaryIO, window: int = WINDOW) -> Iterator[tuple[Any, int]]:
    """The values of the list that opens in ``head``, each with its line, counted from 1; a ``Problem`` in place of one
    that cannot be used.

    Args:
        head: what was read of ``file`` already; it begins with the list.

    Raises:
        BrokenList: the text is no list to its end, or no UTF-8.
    """
    view = _View(head, file, window)
    decoder = StrictDecoder()
    view.place += 1  # behind the bracket
    if view.next_character() == "]":
        view.place += 1
        view.expect_the_end()
        return
    while True:
        view.next_character()
        line = view.line
        yield view.value(decoder), line
        mark = view.next_character()
        view.place += 1
        if mark == "]":
            view.expect_the_end()
            return
        if mark != ",":
            raise BrokenList


class _View:
    """The window: text from somewhere in the file on, and a place in it."""

    def __init__(self, head: bytes, file: BinaryIO, window: int) -> None:
        self._file = file
        self._window = window
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_at_end = False
        self._text = ""
        self._add(head)
        self.place = len(self._text) - len(self._text.lstrip(" \t\r\n"))
        self._counted = 0
        self._line = 1

    @property
    def line(self) -> int:
        """The line of the place."""
        self._line += self._text.count("\n", self._counted, self.place)
        self._counted = self.place
        return self._line

    def next_character(self) -> str:
        """The next one that is not blank, which becomes the place; nothing at the end."""
        while True:
            found = _skip_blank(self._text, self.place)
            assert found is not None, "the pattern matches nothing, too"
            self.place = found.end()
            if self.place < len(self._text) or self._is_at_end:
                return self._text[self.place : self.place + 1]
            self._read()

    def value(self, decoder: StrictDecoder) -> Any:
        """The value at the place, which moves behind it."""
        while True:
            value, end = decoder.decode(self._text, self.place)
            is_whole = end != LOST and end + NUMBER_GOES_ON < len(self._text)
            if is_whole or self._is_at_end or len(self._text) - self.place > LONGEST_ROW:
                break
            self._read()
        if end == LOST:
            raise BrokenList
        self.place = end
        return value

    def expect_the_end(self) -> None:
        """Nothing but blanks may follow."""
        if self.next_character():
            raise BrokenList

    def _read(self) -> None:
        """Move on: what is behind the place is forgotten, and as much as is left before it is read anew."""
        _ = self.line
        self._text = self._text[self.place :]
        self.place = self._counted = 0
        self._add(self._file.read(max(self._window, len(self._text))))

    def _add(self, data: bytes) -> None:
        self._is_at_end = not data
        try:
            self._text += self._decoder.decode(data, final=self._is_at_end)
        except UnicodeDecodeError as error:
            raise BrokenList from error


def is_list(head: bytes) -> bool:
    """Whether a document opens a list."""
    return head.lstrip(b" \t\r\n").startswith(b"[")
