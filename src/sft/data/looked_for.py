"""What a chat template looks for in the contents it writes, read from its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jinja2
from jinja2 import nodes

from sft.data.chat_template import GENERATION_TAG

SEARCHES = {"startswith", "endswith", "split", "rsplit", "partition", "rpartition", "find", "rfind", "index", "count"}
STRIPS = {"strip", "lstrip", "rstrip"}
FILTERS = {
    "trim", "tojson", "string", "length", "count", "list", "default", "items", "selectattr", "rejectattr", "first",
}  # fmt: skip
"""Filters that leave the inside of a text as it is."""

CONTENTS = {"content", "text"}


@dataclass(frozen=True, slots=True)
class LookedFor:
    """Texts that change what a template writes."""

    compared: frozenset[str]
    """Contents that are one of these."""
    searched: frozenset[str]
    """Contents that hold one of these."""


def looked_for(source: str) -> LookedFor | None:
    """What a template looks for in texts; None where it does more to them than that, or cannot be read.

    White space is left out: it is stripped, or stands at the ends of a content, where it is unusual anyway.
    """
    try:
        tree = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(GENERATION_TAG.sub("", source))
    except jinja2.TemplateSyntaxError:
        return None
    if any(_takes_apart(node) for node in tree.find_all((nodes.Getitem, nodes.Filter, nodes.Call, nodes.For))):
        return None
    compared, searched = set[str](), set[str]()
    for compare in tree.find_all(nodes.Compare):
        operands = [compare.expr, *(operand.expr for operand in compare.ops)]
        for operator, left, right in zip(compare.ops, operands, operands[1:], strict=False):
            is_search = operator.op in ("in", "notin") and not isinstance(right, nodes.List | nodes.Tuple | nodes.Name)
            (searched if is_search else compared).update(_texts_in(left), () if is_search else _texts_in(right))
    for call in tree.find_all(nodes.Call):
        if _method(call) in SEARCHES:
            searched.update(_texts_in(call))
    return LookedFor(
        frozenset(text for text in compared if text.strip()), frozenset(text for text in searched if text.strip())
    )


def _takes_apart(node: nodes.Node) -> bool:
    """Whether texts are cut by place, changed inside, or gone through by letter."""
    if isinstance(node, nodes.Filter):
        return node.name not in FILTERS
    if isinstance(node, nodes.Call):
        method = _method(node)
        return method is not None and method not in SEARCHES | STRIPS and bool(list(_texts_in(node)))
    if isinstance(node, nodes.For):
        return _is_content(node.iter)
    assert isinstance(node, nodes.Getitem)
    return _is_content(node.node) and not isinstance(node.arg, nodes.Const)


def _is_content(node: nodes.Node) -> bool:
    """Whether an expression is a content itself, by the names that templates have for it."""
    if isinstance(node, nodes.Name):
        return node.name in CONTENTS
    if isinstance(node, nodes.Getattr):
        return node.attr in CONTENTS
    return isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and node.arg.value in CONTENTS


def _method(call: nodes.Call) -> str | None:
    return call.node.attr if isinstance(call.node, nodes.Getattr) else None


def _texts_in(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    for constant in node.find_all(nodes.Const):
        if isinstance(constant.value, str):
            yield constant.value
