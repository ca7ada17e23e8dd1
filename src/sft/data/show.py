"""An example for the eye: its text with the trained tokens coloured, or bracketed where there is no colour."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from sft.data.types import Example
from sft.terminal.folding import folded
from sft.terminal.plain import num_columns, plain_line

# Blue and bold against the terminal's own colour: told apart with every common kind of colour blindness, and in grey.
TRAINED, PLAIN = "\x1b[1;38;5;33m", "\x1b[0m"
FOUND = "\x1b[7m"
OPEN, CLOSE = "⟦", "⟧"
OPEN_FOUND, CLOSE_FOUND = "⟪", "⟫"
INDENT = "  "
COLOURS = str.maketrans({OPEN: TRAINED, OPEN_FOUND: FOUND, CLOSE: PLAIN, CLOSE_FOUND: PLAIN})
MARKS = 2
"""Columns kept free at the end of a line for marks that close there."""


class Look(NamedTuple):
    """How a piece of text is shown."""

    trained: bool = False
    found: bool = False


def show_example(
    example: Example,
    tokenizer: Any,
    *,
    colour: bool,
    width: int,
    side: str | None = None,
    search: re.Pattern[str] | None = None,
) -> str:
    """Describe one example in lines of at most ``width`` columns.

    Args:
        example: what to show; its text is decoded from its ids, so that what is shown is what is trained.
        tokenizer: decodes the ids.
        colour: mark trained tokens by colour, else by brackets.
        width: columns of the terminal.
        side: which answer of a pair it is.
        search: what is marked besides.
    """
    pieces = _pieces(list(_runs(example, tokenizer)), search)
    header = folded(plain_line(_header(example, side)), max(width, 20))
    return "\n".join([header, *_wrapped(pieces, colour, max(width, 20) - len(INDENT))])


def legend(*, colour: bool, width: int, search: bool = False) -> str:
    """What the marks mean, in lines of at most ``width`` columns."""
    text = "⟦trained⟧: tokens that carry loss. Everything else is read, not learned. \\n: a line break in the text."
    text = folded(f"{text} ⟪found⟫: what was searched for." if search else text, width)
    return text.translate(COLOURS) if colour else text


def search_for(text: str) -> re.Pattern[str]:
    """What finds a text, in capitals or not."""
    return re.compile(re.escape(text), re.IGNORECASE)


def holds(example: Example, tokenizer: Any, search: re.Pattern[str]) -> bool:
    """Whether an example's text, as it is trained, holds what is searched for."""
    return search.search("".join(text for text, _ in _runs(example, tokenizer))) is not None


def decode_trained(example: Example, tokenizer: Any) -> list[str]:
    """What each unbroken run of trained tokens decodes to."""
    return [text for text, is_trained in _runs(example, tokenizer) if is_trained]


def _header(example: Example, side: str | None) -> str:
    turn = "" if example.turn is None else f", answer in message {example.turn + 1}"
    weights = "" if example.weights is None else ", weighted"
    which = "" if side is None else f", {side}"
    return f"{example.source}{turn}{which}: {len(example)} tokens, {example.num_trained_tokens} trained{weights}"


def _runs(example: Example, tokenizer: Any) -> Iterator[tuple[str, bool]]:
    """The text in runs of trained and untrained tokens."""
    pairs = zip(example.input_ids.tolist(), example.loss_mask.tolist(), strict=True)
    for is_trained, run in groupby(pairs, key=lambda pair: pair[1] == 1):
        ids = [token for token, _ in run]
        yield str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)), is_trained


def _pieces(runs: list[tuple[str, bool]], search: re.Pattern[str] | None) -> Iterator[tuple[str, Look]]:
    """The runs, cut where something that was searched for begins or ends; it may lie across several."""
    spans = [] if search is None else [match.span() for match in search.finditer("".join(text for text, _ in runs))]
    cuts = {end: False for _, end in spans} | {begin: True for begin, _ in spans}
    at, found = 0, False
    for text, is_trained in runs:
        inside = sorted(cut for cut in cuts if at <= cut < at + len(text))
        for begin, end in zip([at, *inside], [*inside, at + len(text)], strict=True):
            found = cuts.get(begin, found)
            if end > begin:
                yield text[begin - at : end - at], Look(is_trained, found)
        at += len(text)


def _wrapped(pieces: Iterator[tuple[str, Look]], colour: bool, width: int) -> list[str]:
    """Break the text at its line breaks and at ``width``; a mark goes on over the break."""
    lines, line, column, now = [], "", 0, Look()
    ending, last = (PLAIN, width) if colour else ("", width - MARKS)
    for text, look in pieces:
        mark = _change(now, look, colour)
        line, column, now = line + mark, column + (0 if colour else len(mark)), look
        for character in text:
            cell, size = _cell(character)
            if column + size > last:
                lines.append(line + ending)
                line, column = (_change(Look(), now, colour) if colour else ""), 0
            line, column = line + cell, column + size
            if character == "\n":
                lines.append(line + ending)
                line, column = (_change(Look(), now, colour) if colour else ""), 0
    lines.append(line + _change(now, Look(), colour))
    return [f"{INDENT}{shown}" for shown in lines if re.sub("\x1b\\[[0-9;]*m", "", shown)]


@lru_cache(maxsize=4096)
def _cell(character: str) -> tuple[str, int]:
    """A character as it can be shown, and its columns."""
    cell = plain_line(character)
    return cell, num_columns(cell)


def _change(before: Look, now: Look, colour: bool) -> str:
    """What is written between two pieces."""
    if before == now:
        return ""
    if colour:
        styles = TRAINED * now.trained + FOUND * now.found
        return (PLAIN if any(before) else "") + styles
    trains = before.trained != now.trained
    # marks are closed in the order in which they were opened last: what was found lies within what is trained
    closing = CLOSE_FOUND * before.found + CLOSE * (before.trained and trains)
    return closing + OPEN * (now.trained and trains) + OPEN_FOUND * now.found
