"""TOML. The standard parser keeps no lines, so that they are looked up in the text afterwards."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from sft.config.values import RawValue
from sft.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]  # the same parser, for 3.10

KEY = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|([\w-]+))\s*=""")
TABLE = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")


def parse_toml(text: str, path: str) -> dict[str, RawValue]:
    """The top-level table of a document; tables below it are mappings.

    Raises:
        ConfigError: naming the file and line.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else max(1, len(text.splitlines()))  # the rest are faults at the end
        raise ConfigError(f"{path}:{line}: not usable as TOML: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{path}: arrays or tables are nested too deeply to be a configuration.") from None
    lines = dict(_lines(text))
    return {key: _raw_value(key, value, lines, path) for key, value in values.items()}


def _raw_value(key: str, value: Any, lines: dict[str, int], path: str) -> RawValue:
    prefix = f"{key}."
    inner = {dotted[len(prefix) :]: f"{path}:{line}" for dotted, line in lines.items() if dotted.startswith(prefix)}
    return RawValue(value, f"{path}:{lines[key]}" if key in lines else path, inner)


def _lines(text: str) -> Iterator[tuple[str, int]]:
    """Dotted keys with their lines; a line inside a multi-line string may add a name that nobody asks for."""
    table = ""
    for number, line in enumerate(text.splitlines(), start=1):
        header, key = TABLE.match(line), KEY.match(line)
        if header:
            table = header[1]
            yield table, number
        elif key:
            name = key[1] or key[2] or key[3]
            yield (f"{table}.{name}" if table else name), number
