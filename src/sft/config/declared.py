"""What type an option declares, read from its annotation's text.

The text may be ours or that of the installed transformers, which is read without being imported.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

SIMPLE_KINDS = ("bool", "int", "float", "str", "list", "dict")
WANTED = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
}


@dataclass(frozen=True, slots=True)
class Declared:
    """The values an option takes."""

    kinds: frozenset[str]
    """Any of bool, int, float, str, list, dict; empty where the annotation names something we cannot write."""

    optional: bool = False
    """Whether None is a value."""

    item: str | None = None
    """'str' where every entry of the list or mapping must be text, 'int' where it must be a whole number."""

    choices: tuple[str, ...] | None = None
    """The only texts allowed, where the annotation names an enumeration."""

    def wanted(self) -> str:
        """'a whole number', 'text or a list of texts'; completes 'must be ...'."""
        names = [self._name(kind) for kind in SIMPLE_KINDS if kind in self.kinds and not self._covered(kind)]
        return " or ".join(names) or "left out: it cannot be written here"

    def _covered(self, kind: str) -> bool:
        return kind == "int" and "float" in self.kinds

    def _name(self, kind: str) -> str:
        if self.item is not None and kind == "list":
            return "a list of texts" if self.item == "str" else "a list of whole numbers"
        if self.item == "str" and kind == "dict":
            return "a mapping of text to text"
        return WANTED[kind]


def parse_annotation(text: str, enumerations: Mapping[str, tuple[str, ...]] | None = None) -> Declared:
    """The declared type behind an annotation such as ``str | list[str] | None``.

    ``enumerations`` gives the texts of the enumeration classes that an annotation may name.
    """
    declared = Declared(frozenset())
    for member in _members(ast.parse(text, mode="eval").body):
        declared = _add(declared, member, enumerations or {})
    return declared


def _members(node: ast.expr) -> list[ast.expr]:
    """The members of a union, however it is written."""
    if isinstance(node, ast.BinOp):
        return [*_members(node.left), *_members(node.right)]
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("Optional", "Union"):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        none: list[ast.expr] = [ast.Constant(None)] if ast.unparse(node.value) == "Optional" else []
        return [found for part in inner for found in _members(part)] + none
    return [node]


def _add(declared: Declared, member: ast.expr, enumerations: Mapping[str, tuple[str, ...]]) -> Declared:
    name = ast.unparse(member.value if isinstance(member, ast.Subscript) else member)
    if name == "None":
        return replace(declared, optional=True)
    if name == "Literal" and isinstance(member, ast.Subscript):
        return replace(declared, kinds=declared.kinds | _literal_kinds(member.slice))
    if name in enumerations:
        return replace(declared, kinds=declared.kinds | {"str"}, choices=enumerations[name])
    if name not in SIMPLE_KINDS:
        return declared
    item = _item(member) if isinstance(member, ast.Subscript) else None
    return replace(declared, kinds=declared.kinds | {name}, item=item or declared.item)


def _literal_kinds(values: ast.expr) -> set[str]:
    parts = values.elts if isinstance(values, ast.Tuple) else [values]
    constants: list[Any] = [part.value for part in parts if isinstance(part, ast.Constant)]
    return {type(constant).__name__ for constant in constants} & set(SIMPLE_KINDS)


def _item(member: ast.Subscript) -> str | None:
    last = member.slice.elts[-1] if isinstance(member.slice, ast.Tuple) else member.slice
    name = ast.unparse(last)
    return name if name in ("str", "int") else None
