"""Text of data, models and files as it may be printed: nothing in it moves the cursor, colours or turns lines around.

Everything that is printed and was not written by us goes through here, and so does what is written to logs.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

# C0 and C1 control characters (a C1 one can begin a sequence, too), what reorders text, line ends that are not \n, and
# halves of characters, which cannot be encoded.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
UNSAFE_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}

LONGEST_LINE = 4000
"""Characters of one line of a message; what is longer is cut in its middle, and says so."""


def plain(text: str) -> str:
    """Text of several lines; line breaks and tabs stay, anything else that acts on a terminal is written out."""
    return UNSAFE_IN_LINES.sub(_written_out, text)


def plain_line(text: str) -> str:
    """The same on one line: line breaks and tabs are written out as well."""
    return UNSAFE.sub(_written_out, text)


def shortened(text: str, most: int = LONGEST_LINE) -> str:
    """The text with the middle of lines that are longer than ``most`` left out."""
    if len(text) <= most:
        return text
    return "\n".join(_cut(line, most) for line in text.split("\n"))


def message(text: str) -> str:
    """A message that may quote data: harmless, and no line of it without end."""
    return plain(shortened(text))


def as_json(value: Any, **layout: Any) -> str:
    """JSON for programs, in which a terminal finds nothing to act on; it reads back as the same value."""
    return UNSAFE_IN_LINES.sub(_as_json_escape, json.dumps(value, ensure_ascii=False, **layout))


def num_columns(text: str) -> int:
    """Columns that a text without control characters takes."""
    if text.isascii():
        return len(text)
    return sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character) or character in "\u200b\u200c\u200d\ufe0e\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _written_out(found: re.Match[str]) -> str:
    character = found[0]
    return NAMED.get(character) or character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _as_json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _cut(line: str, most: int) -> str:
    if len(line) <= most:
        return line
    side = most // 2
    return f"{line[:side]} [... {len(line) - 2 * side:,} characters left out ...] {line[-side:]}"
