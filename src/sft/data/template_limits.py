"""Chat templates come from strangers. What one of them may spend on writing one conversation is bounded here.

Jinja's sandbox keeps a template from running code; it does not keep it from writing for ever. So each rendering has an
allowance, and what it does has its price (``template_prices.py``). Whoever runs out gets a ``TooMuch``, a
``jinja2.TemplateError`` like every other refusal of a template.

transformers compiles every template in one function. ``limit_chat_templates`` puts ours in its place, so that whoever
renders in this process (preparation, evaluation, the check of a merge) is bounded, and what is written stays the
library's own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils import chat_template_utils

from sft.data.template_prices import (
    STEP,
    TooMuch,
    allowed,
    count_characters,
    paid_filter,
    pay_for_method,
    pay_for_output,
    pay_for_power,
    pay_for_product,
    refuse_widths,
    size_of,
    spend,
)

MAX_SOURCE = 1 << 20
"""Characters of a template. The longest that are published have some ten thousand."""


class LimitedTemplate(jinja2.Template):
    """A template whose every rendering has an allowance."""

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """What ``render`` joins, piece by piece."""
        with allowed([*args, kwargs]):
            yield from super().generate(*args, **kwargs)

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
            finalize=pay_for_output,
        )
        limited.globals.update(original.globals)
        limited.globals.pop("lipsum", None)
        limited.filters.update({name: paid_filter(name, filter) for name, filter in original.filters.items()})
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
        spend(size_of(value))
        return value

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute, having paid for the result."""
        if operator == "*":
            pay_for_product(left, right)
        elif operator == "**":
            pay_for_power(left, right)
        elif operator == "%" and isinstance(left, str):
            refuse_widths(left, [right])
            spend(len(left) + count_characters(right))
        elif operator == "+":
            spend(size_of(left) + size_of(right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        spend(STEP)
        method = getattr(obj, "__wrapped__", obj)  # the sandbox wraps str.format
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str) and name == "join" and args:
            args = (list(args[0]), *args[1:])  # what is counted must not be used up by counting
        if isinstance(owner, (str, list, dict, tuple)):
            pay_for_method(owner, name, [*args, *kwargs.values()])
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
