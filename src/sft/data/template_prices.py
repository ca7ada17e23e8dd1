"""What the rendering of a chat template may spend, and what costs how much.

A rendering has an allowance of *units*: a character that is made costs one, a turn of a loop, a call or a macro costs
``STEP``. What a step is going to make is counted before it is made.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import jinja2

UNITS = 20_000_000
"""What a rendering may spend, beside what its messages allow."""

UNITS_PER_CHARACTER = 50
"""What each character of the messages allows over that."""

STEP = 20
"""What a turn of a loop, a call or a macro costs."""

SECONDS = 1.0
"""Processor time of one rendering; each million characters of the messages allows as much again."""

MAX_NUMBER = 1 << 20
"""The largest width, count or indentation that a template may ask a function for."""

_DIGITS = re.compile(r"\d{7,}")

_INSERTERS = frozenset({"join", "indent", "wordwrap"})
"""Filters that put a text between, or before, parts of another."""

_WIDTH_TAKERS = frozenset({"format", "format_map", "__mod__"})


class TooMuch(jinja2.TemplateError):
    """A template asks for more than any honest one needs."""


@dataclass
class Allowance:
    """What is left to one rendering."""

    units: int
    deadline: float
    """By ``time.thread_time``."""
    steps: int = field(default=0)

    @classmethod
    def over(cls, values: Iterable[Any]) -> Allowance:
        """The allowance for writing these messages, tools and variables."""
        characters = sum(count_characters(value) for value in values)
        return cls(
            UNITS + UNITS_PER_CHARACTER * characters, time.thread_time() + SECONDS * (1 + characters / 1_000_000)
        )

    def spend(self, units: int) -> None:
        """Take units off.

        Raises:
            TooMuch: they, or the time, are used up.
        """
        self.units -= units
        self.steps += 1
        if self.units < 0:
            raise TooMuch(
                f"it writes, or goes round in loops, more than {UNITS:,} characters' worth for one conversation"
            )
        if not self.steps & 63 and time.thread_time() > self.deadline:
            raise TooMuch(f"it takes more than {SECONDS:g} seconds for one conversation")


_allowance: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


@contextmanager
def allowed(values: Iterable[Any]) -> Iterator[None]:
    """While open, a rendering of these values is under way."""
    token = _allowance.set(Allowance.over(values))
    try:
        yield
    finally:
        _allowance.reset(token)


def spend(units: int) -> None:
    """Take units off the rendering under way; outside of one (constants, when a template is compiled) nothing."""
    if (allowance := _allowance.get()) is not None:
        allowance.spend(units)


def pay_for_product(left: Any, right: Any) -> None:
    """Pay for a repeated text or list."""
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, (str, list, tuple)) and isinstance(count, int):
            spend(len(sequence) * max(count, 0))
            return
    _refuse_long_numbers(_bits(left) + _bits(right))


def pay_for_power(left: Any, right: Any) -> None:
    """Refuse powers with more digits than anybody reads."""
    if isinstance(left, int) and isinstance(right, int):
        _refuse_long_numbers(_bits(left) * max(abs(right), 1))


def _refuse_long_numbers(bits: int) -> None:
    if bits > 4096:
        raise TooMuch("it computes with numbers of more than a thousand digits")


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0


def pay_for_output(value: Any) -> Any:
    """Pay for what ``{{ ... }}`` writes; the text is not changed."""
    spend(size_of(value) if isinstance(value, str) else count_characters(value))
    return value


def pay_for_method(owner: Any, name: str, args: list[Any]) -> None:
    if isinstance(owner, str):
        refuse_widths(owner if name in _WIDTH_TAKERS else "", args)
        if name == "replace" and len(args) >= 2:
            spend(_replaced_length(owner, *args[:2]))
        elif name == "join" and args:
            spend(count_characters(args[0]) + len(owner) * len(args[0]))
        elif name in ("translate", "expandtabs"):
            raise TooMuch(f"it calls {name}(), which no chat template needs")
    spend(size_of(owner) + sum(size_of(arg) for arg in args))


def _replaced_length(text: str, old: Any, new: Any) -> int:
    """Length of ``text.replace(old, new)`` at most."""
    old, new = str(old), str(new)
    return len(text) + text.count(old) * len(new)


def refuse_widths(pattern: str, args: Iterable[Any]) -> None:
    """Refuse a width or count past ``MAX_NUMBER``, as an argument or within a format."""
    numbers = [arg for arg in args if isinstance(arg, int)]
    numbers += [part for arg in args if isinstance(arg, (tuple, list)) for part in arg if isinstance(part, int)]
    numbers += [int(digits[:12]) for digits in _DIGITS.findall(pattern)]
    largest = max(map(abs, numbers), default=0)
    if largest > MAX_NUMBER:
        raise TooMuch(f"it asks for a width or count of {largest:,}")


def paid_filter(name: str, filter: Callable[..., Any]) -> Callable[..., Any]:
    """The same filter, which is paid for by what it is given and by what it returns."""
    position = 1 if any(getattr(filter, mark, None) for mark in ("jinja_pass_arg",)) else 0

    @wraps(filter)
    def paid(*args: Any, **kwargs: Any) -> Any:
        value, options = args[position], [*args[position + 1 :], *kwargs.values()]
        spend(STEP)
        refuse_widths(value if name == "format" and isinstance(value, str) else "", options)
        if name == "replace" and isinstance(value, str) and len(options) >= 2:
            spend(_replaced_length(value, *options[:2]))
        elif name in _INSERTERS and isinstance(value, Sized):
            longest = max((len(option) for option in options if isinstance(option, str)), default=0)
            number = max((option for option in options if isinstance(option, int)), default=0)
            places = value.count("\n") + 1 if name == "indent" and isinstance(value, str) else len(value)
            spend(places * (longest + number * (name == "indent")) + count_characters(value))
        elif name == "tojson":
            spend(
                count_characters(value)
                * (1 + max((option for option in options if isinstance(option, int)), default=0))
            )
        result = filter(*args, **kwargs)
        spend(size_of(result))
        return result

    return paid


def size_of(value: Any) -> int:
    """Length of a text or list; what else there is costs nothing."""
    return len(value) if isinstance(value, (str, list, tuple, dict)) else 0


def count_characters(value: Any, depth: int = 0) -> int:
    """Characters in a value of JSON's kinds, roughly as they would be written."""
    if isinstance(value, str):
        return len(value)
    if depth > 64:
        return 0
    if isinstance(value, Mapping):
        return sum(
            count_characters(key, depth + 1) + count_characters(item, depth + 1) + 4 for key, item in value.items()
        )
    if isinstance(value, (list, tuple)):
        return sum(count_characters(item, depth + 1) + 2 for item in value)
    return 8
