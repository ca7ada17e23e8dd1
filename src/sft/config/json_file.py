"""JSON, strictly: each key with its line, nothing given twice, no NaN."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from sft.config.values import RawValue
from sft.errors import ConfigError

SPACE = re.compile(r"[ \t\r\n]*")


def parse_json(text: str, path: str) -> dict[str, RawValue]:
    """The object of a document.

    Raises:
        ConfigError: naming the file and line.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not usable as JSON: {error.msg} (column {error.colno}).") from None
    except _Refused as error:
        raise ConfigError(f"{path}{_line_of_duplicate(text, error.key)}: not usable as JSON: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{path}: lists or objects are nested too deeply to be a configuration.") from None
    if not isinstance(value, dict):
        raise ConfigError(
            f'{path}:1: a configuration is one JSON object ({{"lora_r": 8}}), but this is {_kind(value)}. '
            "Data goes with data_path."
        )
    lines = _Lines(text)
    lines.walk_object(SPACE.match(text).end(), "")  # type: ignore[union-attr]
    return {key: _raw_value(key, value[key], lines.found, path) for key in value}


class _Refused(ValueError):
    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"{twice} is given twice; keep one", twice)
    return found


def _refuse_constant(word: str) -> NoReturn:
    raise _Refused(f"{word} is no number", word)


def _line_of_duplicate(text: str, key: str) -> str:
    """':7' for the last place that reads like the key or constant in question."""
    position = max(text.rfind(json.dumps(key)), text.rfind(key) if key.endswith(("NaN", "Infinity")) else -1)
    return f":{text.count(chr(10), 0, position) + 1}" if position >= 0 else ""


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else "a single value"


def _raw_value(key: str, value: Any, lines: dict[str, int], path: str) -> RawValue:
    prefix = f"{key}."
    inner = {dotted[len(prefix) :]: f"{path}:{line}" for dotted, line in lines.items() if dotted.startswith(prefix)}
    return RawValue(value, f"{path}:{lines[key]}", inner if isinstance(value, dict) else {})


class _Lines:
    """Finds the line of every key of nested objects, in text that is known to be valid JSON."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: dict[str, int] = {}
        self.decoder = json.JSONDecoder()

    def walk_object(self, position: int, prefix: str) -> int:
        """Walk an object from its brace on; returns the position after it."""
        position = self._skip(position + 1)
        while self.text[position] != "}":
            key, after = self.decoder.raw_decode(self.text, position)
            self.found[prefix + key] = self.text.count("\n", 0, position) + 1
            value_at = self._skip(self._skip(after) + 1)
            if self.text[value_at] == "{":
                position = self.walk_object(value_at, f"{prefix}{key}.")
            else:
                position = self.decoder.raw_decode(self.text, value_at)[1]
            position = self._skip(position)
            if self.text[position] == ",":
                position = self._skip(position + 1)
        return position + 1

    def _skip(self, position: int) -> int:
        match = SPACE.match(self.text, position)
        return match.end() if match else position
