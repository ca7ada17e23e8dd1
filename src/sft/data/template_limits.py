"""Chat templates come from strangers. What one of them may spend on writing one conversation is bounded here.

Jinja's sandbox keeps a template from running code; it does not keep it from writing for ever. So each rendering has an
allowance of *units*: a character that is made costs one, a turn of a loop, a call or a macro costs ``STEP``. What a
step is going to make is counted before it is made. Whoever runs out gets a ``TooMuch``, a ``jinja2.TemplateError`` like
every other refusal of a template.

transformers compiles every template in one function. ``limit_chat_templates`` puts ours in its place, so that whoever
renders in this process (preparation, evaluation, the check of a merge) is bounded, and what is written stays the
library's own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sized
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils import chat_template_utils

MAX_SOURCE = 1 << 20
"""Characters of a template. The longest that are published have some ten thousand."""

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
        characters = sum(_characters(value) for value in values)
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


def spend(units: int) -> None:
    """Take units off the rendering under way; outside of one (constants, when a template is compiled) nothing."""
    if (allowance := _allowance.get()) is not None:
        allowance.spend(units)


class LimitedTemplate(jinja2.Template):
    """A template whose every rendering has an allowance."""

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """What ``render`` joins, piece by piece."""
        token = _allowance.set(Allowance.over([*args, kwargs]))
        try:
            yield from super().generate(*args, **kwargs)
        finally:
            _allowance.reset(token)

    def render(self, *args: Any, **kwargs: Any) -> str:
        """The text."""
        return "".join(self.generate(*args, **kwargs))


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox, where loops, macros, calls, filters, sums, products and output have their price."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    template_class = LimitedTemplate

    @classmethod
    def like(cls, original: jinja2.Environment) -> LimitedEnvironment:
        """One with the tags, filters and globals of another."""
        limited = cls(
            trim_blocks=original.trim_blocks,
            lstrip_blocks=original.lstrip_blocks,
            extensions=[type(extension) for extension in original.extensions.values()],
            finalize=_pay_for_output,
        )
        limited.globals.update(original.globals)
        limited.globals.pop("lipsum", None)
        limited.filters.update({name: _paid_filter(name, filter) for name, filter in original.filters.items()})
        limited.tests.update(original.tests)
        return limited

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        """Put prices into the parsed template, then let Jinja compile it."""
        for node in source.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
            node.body.insert(0, _price(STEP + _literal_length(node), node.lineno))  # type: ignore[attr-defined]
        for concat in list(source.find_all(nodes.Concat)):
            _pay_for_concat(concat)
        return super()._generate(source, *args, **kwargs)

    def spend(self, units: int) -> str:
        """What the compiled template calls; writes nothing."""
        spend(units)
        return ""

    def measured(self, value: Any) -> Any:
        """Pay for a piece of text before it is joined to another."""
        spend(_size(value))
        return value

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute, having paid for the result."""
        if operator == "*":
            pay_for_product(left, right)
        elif operator == "**":
            pay_for_power(left, right)
        elif operator == "%" and isinstance(left, str):
            _refuse_widths(left, [right])
            spend(len(left) + _characters(right))
        elif operator == "+":
            spend(_size(left) + _size(right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        spend(STEP)
        method = getattr(obj, "__wrapped__", obj)  # the sandbox wraps str.format
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str) and name == "join" and args:
            args = (list(args[0]), *args[1:])  # what is counted must not be used up by counting
        if isinstance(owner, (str, list, dict, tuple)):
            _pay_for_method(owner, name, [*args, *kwargs.values()])
        return super().call(context, obj, *args, **kwargs)


def limit_chat_templates() -> None:
    """From now on, whatever transformers renders in this process is rendered within limits."""
    if chat_template_utils._compile_jinja_template is not compile_limited:
        chat_template_utils._compile_jinja_template = compile_limited


@lru_cache(maxsize=64)
def compile_limited(source: str) -> jinja2.Template:
    """Compile a template as transformers does, to be rendered within limits.

    Raises:
        TooMuch: the template itself is longer than any honest one.
        jinja2.TemplateSyntaxError: it is no Jinja.
    """
    if len(source) > MAX_SOURCE:
        raise TooMuch(f"it is {len(source):,} characters long; at most {MAX_SOURCE:,} are read")
    library = chat_template_utils._cached_compile_jinja_template("").environment
    try:
        return LimitedEnvironment.like(library).from_string(source)
    except RecursionError:
        raise TooMuch("its expressions or blocks are nested too deeply") from None


# What costs how much


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


def _pay_for_output(value: Any) -> Any:
    """Pay for what ``{{ ... }}`` writes; the text is not changed."""
    spend(_size(value) if isinstance(value, str) else _characters(value))
    return value


def _pay_for_method(owner: Any, name: str, args: list[Any]) -> None:
    if isinstance(owner, str):
        _refuse_widths(owner if name in _WIDTH_TAKERS else "", args)
        if name == "replace" and len(args) >= 2:
            spend(_replaced_length(owner, *args[:2]))
        elif name == "join" and args:
            spend(_characters(args[0]) + len(owner) * len(args[0]))
        elif name in ("translate", "expandtabs"):
            raise TooMuch(f"it calls {name}(), which no chat template needs")
    spend(_size(owner) + sum(_size(arg) for arg in args))


def _replaced_length(text: str, old: Any, new: Any) -> int:
    """Length of ``text.replace(old, new)`` at most."""
    old, new = str(old), str(new)
    return len(text) + text.count(old) * len(new)


def _refuse_widths(pattern: str, args: Iterable[Any]) -> None:
    """Refuse a width or count past ``MAX_NUMBER``, as an argument or within a format."""
    numbers = [arg for arg in args if isinstance(arg, int)]
    numbers += [part for arg in args if isinstance(arg, (tuple, list)) for part in arg if isinstance(part, int)]
    numbers += [int(digits[:12]) for digits in _DIGITS.findall(pattern)]
    largest = max(map(abs, numbers), default=0)
    if largest > MAX_NUMBER:
        raise TooMuch(f"it asks for a width or count of {largest:,}")


def _paid_filter(name: str, filter: Callable[..., Any]) -> Callable[..., Any]:
    """The same filter, which is paid for by what it is given and by what it returns."""
    position = 1 if any(getattr(filter, mark, None) for mark in ("jinja_pass_arg",)) else 0

    @wraps(filter)
    def paid(*args: Any, **kwargs: Any) -> Any:
        value, options = args[position], [*args[position + 1 :], *kwargs.values()]
        spend(STEP)
        _refuse_widths(value if name == "format" and isinstance(value, str) else "", options)
        if name == "replace" and isinstance(value, str) and len(options) >= 2:
            spend(_replaced_length(value, *options[:2]))
        elif name in _INSERTERS and isinstance(value, Sized):
            longest = max((len(option) for option in options if isinstance(option, str)), default=0)
            number = max((option for option in options if isinstance(option, int)), default=0)
            places = value.count("\n") + 1 if name == "indent" and isinstance(value, str) else len(value)
            spend(places * (longest + number * (name == "indent")) + _characters(value))
        elif name == "tojson":
            spend(_characters(value) * (1 + max((option for option in options if isinstance(option, int)), default=0)))
        result = filter(*args, **kwargs)
        spend(_size(result))
        return result

    return paid


def _size(value: Any) -> int:
    """Length of a text or list; what else there is costs nothing."""
    return len(value) if isinstance(value, (str, list, tuple, dict)) else 0


def _characters(value: Any, depth: int = 0) -> int:
    """Characters in a value of JSON's kinds, roughly as they would be written."""
    if isinstance(value, str):
        return len(value)
    if depth > 64:
        return 0
    if isinstance(value, Mapping):
        return sum(_characters(key, depth + 1) + _characters(item, depth + 1) + 4 for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(_characters(item, depth + 1) + 2 for item in value)
    return 8


# Prices in the parsed template


def _price(units: int, line: int) -> nodes.Node:
    """A statement that spends and writes nothing."""
    call = nodes.Call(nodes.EnvironmentAttribute("spend"), [nodes.Const(units)], [], None, None)
    return nodes.ExprStmt(call).set_lineno(line)


def _literal_length(node: nodes.Node) -> int:
    """Characters of the template's own text in a body, which each round writes at most once."""
    return sum(len(data.data) for data in node.find_all(nodes.TemplateData))


def _pay_for_concat(concat: nodes.Concat) -> None:
    """Let each part of ``a ~ b`` be measured before they are joined."""
    measured = nodes.EnvironmentAttribute("measured")
    concat.nodes = [
        part if isinstance(part, nodes.Const) else nodes.Call(measured, [part], [], None, None) for part in concat.nodes
    ]
