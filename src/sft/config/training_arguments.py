"""The fields of the installed transformers.TrainingArguments, read from its source without importing it.

Importing transformers takes seconds; parsing one of its files takes a few hundredths of one, so that a wrong name or
type is found at once.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from sft.config.declared import Declared, parse_annotation

NOT_WRITTEN = ("parallelism_config",)
"""Fields that take objects, which no file can hold."""


@lru_cache(maxsize=1)
def installed_fields() -> dict[str, Declared]:
    """Name and type of every field; empty where transformers is not installed."""
    return {
        name: parse_annotation(ast.unparse(statement.annotation), installed_enumerations())
        for name, statement in _field_statements()
        if name not in NOT_WRITTEN
    }


@lru_cache(maxsize=1)
def installed_help() -> dict[str, str]:
    """The help text of every field, in one line."""
    return {name: _help_of(statement) for name, statement in _field_statements() if name not in NOT_WRITTEN}


@lru_cache(maxsize=1)
def installed_enumerations() -> dict[str, tuple[str, ...]]:
    """Texts of the enumeration classes (OptimizerNames, SchedulerType, ...) by class name."""
    trees = (_parsed("training_args.py"), _parsed("trainer_utils.py"), _parsed("debug_utils.py"))
    return {name: texts for tree in trees for name, texts in _enumerations(tree)}


@lru_cache(maxsize=1)
def installed_trackers() -> tuple[str, ...]:
    """Names that report_to takes; empty where they cannot be found."""
    for node in _parsed("integrations/integration_utils.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INTEGRATION_TO_CALLBACK":
            keys = node.value.keys if isinstance(node.value, ast.Dict) else []
            return tuple(str(key.value) for key in keys if isinstance(key, ast.Constant))
    return ()


@lru_cache(maxsize=4)
def _parsed(relative: str) -> ast.Module:
    """The syntax tree of a file of transformers; an empty one where there is no such file."""
    found = importlib.util.find_spec("transformers")
    folders = found.submodule_search_locations if found is not None else None
    path = Path(folders[0], relative) if folders else None
    if path is None or not path.is_file():
        return ast.Module(body=[], type_ignores=[])
    return ast.parse(path.read_text(encoding="utf-8"))


def _field_statements() -> Iterator[tuple[str, ast.AnnAssign]]:
    for node in _parsed("training_args.py").body:
        if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments":
            for statement in node.body:
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    yield statement.target.id, statement


def _help_of(statement: ast.AnnAssign) -> str:
    for node in ast.walk(statement):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "help":
                    return " ".join(_text(value).split())
    return ""


def _text(node: ast.expr) -> str:
    """The literal text of an expression; parts that are computed are left out."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    return ""


def _enumerations(tree: ast.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
            yield node.name, tuple(_members_of(node))


def _members_of(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            yield str(statement.value.value)
