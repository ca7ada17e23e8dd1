"""Raw values, each with where it was written, and how they become the type an option declares."""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sft.config.declared import Declared

TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")
NONE_WORDS = ("none", "null")
COMMA_LIST = re.compile(r"[\w./:@-]+(,\s*[\w./:@-]+)+,?")


@dataclass(frozen=True, slots=True)
class RawValue:
    """A value as it was read, before it is checked, and where it was read."""

    value: Any
    """What the YAML, JSON or TOML parser gave; from the command line True (a bare flag), a word or a list of words; any
    Python value."""

    origin: str
    """'default', 'python', a file and line such as 'train.yaml:12', or a flag such as '--lora_r'."""

    inner_origins: Mapping[str, str] = field(default_factory=dict)
    """For a mapping in a file: where each entry is written, by dotted path ('lora_config.r' under 'model')."""

    default: tuple[Any, ...] = ()
    """What holds where it is not given, in a program whose default is not the option's own; else empty."""

    @property
    def from_command_line(self) -> bool:
        return self.origin.startswith("--")

    def entries(self) -> dict[str, RawValue]:
        """The entries of a mapping, each with its own line."""
        return {key: self._entry(key, value) for key, value in self.value.items()}

    def _entry(self, key: str, value: Any) -> RawValue:
        prefix = f"{key}."
        inner = {path[len(prefix) :]: at for path, at in self.inner_origins.items() if path.startswith(prefix)}
        return RawValue(value, self.inner_origins.get(key, self.origin), inner)


class Mismatch(Exception):
    """A value that cannot be what its option wants. The text completes 'must be ...'."""


def convert(raw: RawValue, declared: Declared) -> Any:
    """The value as the declared type, copied, so that nothing is shared with the caller.

    Numbers and booleans may be written as text ('2e-4', 'False'). The words none and null stand for None on the
    command line only: in a file there is a way to write the real thing.

    Raises:
        Mismatch: with what is wanted.
    """
    value = _without_path_object(raw.value)
    if raw.from_command_line and declared.optional and _is_word(value, NONE_WORDS):
        return None
    if value is None:
        if declared.optional:
            return None
        raise Mismatch(f"{declared.wanted()}; leave the option out to get its default")
    if isinstance(value, str):
        return _from_text(value, declared, split_commas=raw.from_command_line)
    return _from_object(value, declared)


def shown(value: Any) -> str:
    """A value for a message: as a file would write it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 80
    shortener.maxlist = shortener.maxdict = 4
    return shortener.repr(value)


def is_whole(value: Any) -> bool:
    """Whether a number has no fractional part."""
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _without_path_object(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _is_word(value: Any, words: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value.lower() in words


def _from_text(text: str, declared: Declared, *, split_commas: bool) -> Any:
    """Text is itself where text is allowed, unless it is plainly a list or a mapping."""
    if "\0" in text:
        raise Mismatch("text without NUL characters")
    kinds = declared.kinds
    if "list" in kinds and (text.lstrip().startswith("[") or "str" not in kinds or split_commas):
        items = _list_from_text(text, only_commas="str" in kinds)
        if items is not None:
            return _checked_list(items, declared)
    if "dict" in kinds and text.lstrip().startswith("{"):
        return _checked_dict(_parse_json(text, declared), declared)
    if "str" in kinds:
        return text
    for kind, parse in (("bool", _parse_bool), ("int", _parse_int), ("float", _parse_float)):
        if kind in kinds and (parsed := parse(text)) is not None:
            return parsed
    raise Mismatch(declared.wanted())


def _list_from_text(text: str, *, only_commas: bool) -> list[Any] | None:
    """A JSON list, or words with commas; None where the text may as well be one word."""
    if text.lstrip().startswith("["):
        parsed = _try_json(text)
        if isinstance(parsed, list):
            return parsed
        if not only_commas:
            raise Mismatch("a list; this text is no JSON list")
    if not only_commas or COMMA_LIST.fullmatch(text):
        return [word.strip() for word in text.split(",") if word.strip()]
    return None


def _try_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _parse_json(text: str, declared: Declared) -> Any:
    parsed = _try_json(text)
    if parsed is None:
        raise Mismatch(f"{declared.wanted()}; this text is no JSON object")
    return parsed


def _parse_bool(text: str) -> bool | None:
    if _is_word(text, TRUE_WORDS):
        return True
    return False if _is_word(text, FALSE_WORDS) else None


def _parse_int(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        number = _parse_float(text)
        return int(number) if number is not None and is_whole(number) else None


def _parse_float(text: str) -> int | float | None:
    """The number; whole numbers written without a point stay integers, which read better."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return _finite(number)


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise Mismatch("a finite number")
    return number


def _from_object(value: Any, declared: Declared) -> Any:
    kinds = declared.kinds
    if isinstance(value, bool):
        if "bool" in kinds:
            return value
    elif isinstance(value, int | float):
        return _number(value, declared)
    elif isinstance(value, Mapping) and "dict" in kinds:
        return _checked_dict(value, declared)
    elif isinstance(value, list | tuple) and "list" in kinds:
        return _checked_list(value, declared)
    raise Mismatch(declared.wanted() + _quote_hint(value, declared))


def _number(value: int | float, declared: Declared) -> int | float:
    kinds = declared.kinds
    if isinstance(value, float):
        _finite(value)
    if "float" in kinds:
        return _within_float(value)
    if "int" in kinds and is_whole(value):
        return int(value)
    raise Mismatch(declared.wanted() + _quote_hint(value, declared))


def _within_float(value: int | float) -> int | float:
    try:
        float(value)
    except OverflowError:
        raise Mismatch("a finite number") from None
    return value


def _quote_hint(value: Any, declared: Declared) -> str:
    """YAML reads an unquoted 42 or true as a number or a boolean."""
    is_scalar = isinstance(value, bool | int | float)
    return f' (quote it to make it text: "{value}")' if "str" in declared.kinds and is_scalar else ""


def _checked_list(items: Any, declared: Declared) -> list[Any]:
    checked = [_plain(_without_path_object(item)) for item in items]
    if declared.item == "str" and not all(isinstance(item, str) for item in checked):
        raise Mismatch(declared.wanted() + "; quote entries that YAML reads as something else")
    return [_checked_int(item, declared) for item in checked] if declared.item == "int" else checked


def _checked_int(item: Any, declared: Declared) -> int:
    number = _parse_int(item) if isinstance(item, str) else item
    if isinstance(number, bool) or not isinstance(number, int | float) or not is_whole(number):
        raise Mismatch(declared.wanted())
    return int(number)


def _checked_dict(mapping: Any, declared: Declared) -> dict[str, Any]:
    if not isinstance(mapping, Mapping):
        raise Mismatch(declared.wanted())
    checked = _plain(mapping)
    if declared.item == "str" and not all(isinstance(item, str) for item in checked.values()):
        raise Mismatch(declared.wanted() + "; quote values that YAML reads as something else")
    assert isinstance(checked, dict), "a mapping stays a mapping"
    return checked


def _plain(value: Any) -> Any:
    """A deep copy of nested data that any of YAML, JSON and TOML could hold."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    raise Mismatch(f"made of text, numbers, booleans, lists and mappings with text keys, not {type(value).__name__}")
