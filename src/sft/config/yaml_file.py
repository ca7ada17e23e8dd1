"""YAML, strictly: safe types only, each key with its line, nothing given twice.

Scalars are read by the core schema of YAML 1.2: 2e-4 is a number; yes, no, on and off are text (an option that wants a
boolean takes them as one, and eval_strategy: no stays what it says); 1:30 and 2024-01-01 are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from yaml.reader import ReaderError

from sft.config.values import RawValue
from sft.errors import ConfigError

MAX_ALIASES = 16
"""Enough for a person; too few for a document that unfolds into gigabytes."""

CORE_SCHEMA: tuple[tuple[str, str, str], ...] = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
)


def parse_yaml(text: str, path: str) -> dict[str, RawValue]:
    """The top-level mapping of a document. A key without any value counts as left out.

    Raises:
        ConfigError: naming the file and line.
    """
    try:
        return _top_level(_StrictLoader(text), path)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = f"U+{ord(text[error.position]):04X}"
        raise ConfigError(f"{path}:{line}: not usable as YAML: the character {found} is not allowed.") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_marked(error, path)) from None
    except RecursionError:
        raise ConfigError(f"{path}: lists or mappings are nested too deeply to be a configuration.") from None


class _StrictLoader(yaml.SafeLoader):
    """A SafeLoader without tags, without YAML 1.1's surprises, with a limit on aliases."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own attribute)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.num_aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self.num_aliases += 1
            if self.num_aliases > MAX_ALIASES:
                raise _fault(f"more than {MAX_ALIASES} aliases", event)
        elif getattr(event, "tag", None) is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise _fault(f"the tag {tag} is not allowed; values are plain data", event)
        return super().compose_node(parent, index)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Decimal only: 010 is ten."""
        return int(node.value)


for _name, _pattern, _first in CORE_SCHEMA:
    _characters = [character if character != "\0" else "" for character in _first]
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _characters)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)


def _top_level(loader: _StrictLoader, path: str) -> dict[str, RawValue]:
    node = loader.get_single_node()
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        found = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        raise ConfigError(
            f"{path}:{_line(node)}: a configuration is a mapping of options (lora_r: 8), but this is {found}. "
            "Data goes with data_path."
        )
    for mapping in _mappings(node, set()):
        _refuse_duplicates(mapping)
    return {
        key.value: _raw_value(loader, key, value, path)
        for key, value in node.value
        if not (isinstance(value, yaml.ScalarNode) and value.value == "" and value.style is None)
    }


def _raw_value(loader: _StrictLoader, key: yaml.Node, value: yaml.Node, path: str) -> RawValue:
    constructed = loader.construct_object(value, deep=True)
    inner = {dotted: f"{path}:{line}" for dotted, line in _inner_lines(value, "")}
    return RawValue(constructed, f"{path}:{_line(key)}", inner)


def _inner_lines(node: yaml.Node, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield prefix + str(key.value), _line(key)
            yield from _inner_lines(value, f"{prefix}{key.value}.")


def _mappings(node: yaml.Node, seen: set[int]) -> Iterator[yaml.MappingNode]:
    """Every mapping once, however often it is aliased."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node
    for child in node.value:
        for part in child if isinstance(child, tuple) else (child,):
            yield from _mappings(part, seen)


def _refuse_duplicates(mapping: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            raise _fault("names of options must be text", key)
        if key.value == "<<":
            raise _fault("merge keys (<<) are not allowed; write the options out", key)
        if key.value in lines:
            raise _fault(f"{key.value} is given twice, first in line {lines[key.value]}; keep one", key)
        lines[key.value] = _line(key)


def _fault(problem: str, at: Any) -> yaml.MarkedYAMLError:
    """A fault at a node or an event; both carry where they start."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


CLEARER: Mapping[str, str] = {
    "found unconstructable recursive node": "an alias that contains itself",
    "but found another document": "a second document begins here; keep one",
    "found character '\\t' that cannot start any token": "a tab; YAML is indented with spaces, not tabs",
}
"""PyYAML's words for faults whose cause they do not name."""


def _marked(error: yaml.MarkedYAMLError, path: str) -> str:
    mark = error.problem_mark or error.context_mark
    problem = " ".join((error.problem or error.context or "not readable").split())
    return f"{path}:{mark.line + 1 if mark else 1}: not usable as YAML: {CLEARER.get(problem, problem)}."
