"""An example for the eye: its text with the trained tokens coloured, or bracketed where there is no colour."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from sft.data.types import Example

# Blue and bold against the terminal's own colour: told apart with every common kind of colour blindness, and in grey.
TRAINED, PLAIN = "\x1b[1;38;5;33m", "\x1b[0m"
OPEN, CLOSE = "⟦", "⟧"
INDENT = "  "
# They reorder what a terminal shows, so that text could pose as other text.
REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def show_example(example: Example, tokenizer: Any, *, colour: bool, width: int, side: str | None = None) -> str:
    """Describe one example in lines of at most ``width`` columns.

    Args:
        example: what to show; its text is decoded from its ids, so that what is shown is what is trained.
        tokenizer: decodes the ids.
        colour: mark trained tokens by colour, else by brackets.
        width: columns of the terminal.
        side: which answer of a pair it is.
    """
    lines = [_header(example, side), *_wrapped(_runs(example, tokenizer), colour, max(width, 20) - len(INDENT))]
    return "\n".join(lines)


def legend(*, colour: bool) -> str:
    """What the marks mean."""
    trained = f"{TRAINED}trained{PLAIN}" if colour else f"{OPEN}trained{CLOSE}"
    return f"{trained}: tokens that carry loss. Everything else is read, not learned. \\n: a line break in the text."


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


def _wrapped(runs: Iterator[tuple[str, bool]], colour: bool, width: int) -> list[str]:
    """Break the text at its line breaks and at ``width``; a mark goes on over the break."""
    opening, closing = (TRAINED, PLAIN) if colour else (OPEN, CLOSE)
    lines, line, column = [], "", 0
    for text, is_trained in runs:
        line += opening if is_trained else ""
        column += 0 if colour or not is_trained else 1
        for character in text:
            cell = _cell(character)
            size = sum(2 if unicodedata.east_asian_width(part) in "WF" else 1 for part in cell)
            if column + size > width - (0 if colour else 1):
                lines.append(line + (PLAIN if colour else ""))
                line, column = (opening if colour and is_trained else ""), 0
            line, column = line + cell, column + size
            if character == "\n":
                lines.append(line + (PLAIN if colour else ""))
                line, column = (opening if colour and is_trained else ""), 0
        line += closing if is_trained else ""
        column += 0 if colour or not is_trained else 1
    return [f"{INDENT}{shown}" for shown in [*lines, line] if shown not in ("", TRAINED + PLAIN)]


def _cell(character: str) -> str:
    """A character as it can be shown without moving the cursor, ringing the bell or turning the line around."""
    if character in ESCAPES:
        return ESCAPES[character]
    if unicodedata.category(character) in ("Cc", "Cs") or character in REORDERING:
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character
