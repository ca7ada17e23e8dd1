"""Strict JSON: what Python's decoder lets pass in silence (repeated keys, NaN, half characters) is a problem here.

A problem inside one value does not lose the place, so the reader can go on with the next row. Broken structure does.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

MAX_DEPTH = 100
"""Deepest nesting of one row. Chat templates print nested values by recursion, so a bound has to be somewhere."""

LOST = -1
"""Position after a value whose structure is broken: nothing behind it can be trusted."""


class Problem(NamedTuple):
    """Why a piece of JSON cannot be used."""

    reason: str
    advice: str
    position: int
    """Where in the text it was noticed."""


class StrictDecoder:
    """Decodes one JSON value at a time out of a longer text."""

    def __init__(self) -> None:
        problems: list[tuple[str, str]] = []

        def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            values = dict(pairs)
            if len(values) != len(pairs):
                problems.append(("repeated key", f"{_repeated(pairs)!r} stands twice in one object; keep one of them"))
            return values

        def refuse_constant(name: str) -> None:
            problems.append(("NaN or Infinity", f"{name} is not JSON; write null, or leave the key out"))

        self._problems = problems
        self._raw_decode = json.JSONDecoder(object_pairs_hook=to_dict, parse_constant=refuse_constant).raw_decode

    def decode(self, text: str, start: int) -> tuple[Any, int]:
        """Return the value that begins at ``start`` and the position after it.

        In place of a value that cannot be used comes a ``Problem``; where the structure is broken, the position is
        ``LOST``.
        """
        self._problems.clear()
        try:
            value, end = self._raw_decode(text, start)
        except json.JSONDecodeError as error:
            return _syntax_problem(text, error), LOST
        except RecursionError:
            return _depth_problem(start), LOST
        except ValueError as error:  # an integer of thousands of digits
            return Problem("number too long", str(error).split(";")[0], start), LOST
        if self._problems:
            return Problem(*self._problems[0], start), end
        if _may_be_deep(text, start, end) and _is_deep(value):
            return _depth_problem(start), end
        if _may_have_half_characters(text, start, end) and _has_half_characters(value):
            advice = "A \\ud800-\\udfff escape stands without its other half, so the text was cut inside a character"
            return Problem("half a character", advice, start), end
        return value, end

    def decode_all(self, text: str) -> Any:
        """Return the one value that ``text`` holds, or a ``Problem``."""
        start = len(text) - len(text.lstrip(" \t\r\n"))
        value, end = self.decode(text, start)
        if end != LOST and text[end:].strip(" \t\r\n"):
            return Problem("not valid JSON", f"More text follows the end of the value at column {end + 1}", end)
        return value


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key[:32]
        seen.add(key)
    return ""


def _syntax_problem(text: str, error: json.JSONDecodeError) -> Problem:
    position = error.pos
    found = text[position : position + 1]
    where = f"at column {error.colno}"
    if found == "\0":
        return Problem("NUL byte", f"Found {where}; files written by a crashed program often end in them", position)
    if not text[position:].strip():
        return Problem("not valid JSON", f"The text ends too early, {where}: {error.msg}", position)
    if error.msg.startswith("Unterminated string"):
        return Problem("not valid JSON", f"The string that begins {where} is never closed", position)
    if found in "]}" and error.msg.startswith(("Expecting value", "Expecting property", "Illegal trailing comma")):
        return Problem("not valid JSON", f"A comma stands before {found!r} {where}; take it out", position)
    return Problem("not valid JSON", f"{error.msg} {where}, found {found!r}", position)


def _depth_problem(start: int) -> Problem:
    return Problem("nested too deeply", f"Lists and objects may lie {MAX_DEPTH} deep", start)


def _may_be_deep(text: str, start: int, end: int) -> bool:
    opened = end - start > 2 * MAX_DEPTH and text.count("[", start, end) + text.count("{", start, end)
    return opened > MAX_DEPTH


def _is_deep(value: Any) -> bool:
    """Walk level by level, so that no depth can exhaust the stack."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> list[Any]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [child for child in children if isinstance(child, dict | list)]


def _may_have_half_characters(text: str, start: int, end: int) -> bool:
    escape = text.find("\\u", start, end)
    return escape >= 0 and (text.find("\\ud", escape, end) >= 0 or text.find("\\uD", escape, end) >= 0)


def _has_half_characters(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
