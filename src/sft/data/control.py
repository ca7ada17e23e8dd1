"""Control tokens: texts that steer a model rather than say something, and how to tell the template's from the data's.

A row may hold the text of a control token ("what does <|im_end|> mean?"). The template's own are control; the row's are
content. A ``Shield`` keeps the two apart: rows are rendered with one private-use character in place of each such text,
so that its places in the rendered chat are known, and afterwards the texts are put back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

# Private-use characters of one plane: more than any tokenizer has control tokens and any row has of them.
PRIVATE = range(0xF0000, 0xFFFFE)

Turns = Sequence[Mapping[str, Any]]


class ControlTokens:
    """The texts of a tokenizer's control tokens, and where they stand in a rendered chat."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(sorted({text for text in texts if text.strip()}, key=lambda text: (-len(text), text)))
        one = "|".join(map(re.escape, self.texts)) or r"(?!)"
        self._any = re.compile(one)
        self._next = re.compile(rf"\s*({one})")
        self._tail = re.compile(rf"(?:\s|{one})*")

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, more: Iterable[str] = ()) -> ControlTokens:
        """Tokens that the tokenizer flags special or gives a duty (bos, eos, pad, unk, ...), and ``more``."""
        flagged = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
        return cls([*flagged, *map(str, tokenizer.all_special_tokens), *more])

    def __contains__(self, text: object) -> bool:
        return text in self.texts

    def occurs_in(self, text: str) -> bool:
        """Whether any control token's text stands in ``text``."""
        return self._any.search(text) is not None

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Start and end of every control token, in order."""
        return [match.span() for match in self._any.finditer(text)]

    def replace(self, text: str, marks: Mapping[str, str]) -> str:
        """Put ``marks[token]`` in place of every control token."""
        return self._any.sub(lambda match: marks[match.group()], text)

    def after(self, text: str, position: int) -> tuple[str, int] | None:
        """The control token that follows ``position``, at most white space between, and where it ends."""
        found = self._next.match(text, position)
        return (found.group(1), found.end()) if found else None

    def only_tail(self, text: str, position: int) -> bool:
        """Whether nothing but control tokens and white space follows ``position``."""
        return self._tail.fullmatch(text, position) is not None

    def tail_start(self, text: str) -> int:
        """Where the control tokens and white space at the end of ``text`` begin."""
        end = len(text.rstrip())
        while self.texts and text.endswith(self.texts, 0, end):
            token = next(token for token in self.texts if text.endswith(token, 0, end))
            end = len(text[: end - len(token)].rstrip())
        return end


@dataclass(frozen=True)
class Shield:
    """Private characters that stand for control-token text owned by one row. Most rows own none."""

    token_of: Mapping[str, str]
    """Character -> the text it stands for."""

    @classmethod
    def over(cls, control: ControlTokens, *values: Any) -> Shield:
        """A shield for the strings in ``values``, however deep they lie, of characters that none of them holds."""
        strings = list(strings_in(values))
        if not any(control.occurs_in(text) for text in strings):
            return UNSHIELDED
        taken = set("".join(strings))
        free = (character for character in map(chr, PRIVATE) if character not in taken)
        return cls(dict(zip(free, control.texts, strict=False)))

    def __bool__(self) -> bool:
        return bool(self.token_of)

    def cover(self, control: ControlTokens, value: Any) -> Any:
        """The same value with each control token's text replaced, in strings at any depth (keys of mappings too)."""
        if not self:
            return value
        marks = {token: character for character, token in self.token_of.items()}
        return _map_strings(value, lambda text: control.replace(text, marks))

    def uncover(self, text: str) -> Uncovered:
        """Put the texts back."""
        if not self:
            return Uncovered(text, (), ())
        pieces: list[str] = []
        shifts: list[tuple[int, int]] = []
        owned: list[tuple[int, int]] = []
        length = 0
        for position, character in enumerate(text):
            piece = self.token_of.get(character, character)
            if piece is not character:
                owned.append((length, length + len(piece)))
                shifts.append((position, len(piece) - 1))
            pieces.append(piece)
            length += len(piece)
        return Uncovered("".join(pieces), tuple(owned), tuple(shifts))


UNSHIELDED = Shield({})


@dataclass(frozen=True)
class Uncovered:
    """Text with the rows' own special-token texts back in place."""

    text: str
    owned: tuple[tuple[int, int], ...]
    """Where these texts stand."""
    shifts: tuple[tuple[int, int], ...]

    def position(self, covered: int) -> int:
        """Where a position of the covered text lies now."""
        return covered + sum(shift for place, shift in self.shifts if place < covered)


def strings_in(value: Any) -> Iterator[str]:
    """Every string in a JSON-like value, keys of mappings included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, Mapping)):  # dict first: testing for an ABC is slow
        for key, item in value.items():
            yield from strings_in(key)
            yield from strings_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings_in(item)


def _map_strings(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_map_strings(key, change): _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_strings(item, change) for item in value]
    return value
