"""JSON files as rows, each with the line it begins on.

    .jsonl   one object a line; a bad line is a BadRow and reading goes on
    .json    a list of objects; or one object that holds such a list; or one object; or objects one after the other

A document whose structure is broken ends the run with a located error: what follows the break cannot be told apart.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Generator, Iterable, Iterator
from itertools import chain, islice
from typing import Any, BinaryIO

from sft.data.sources.json_text import LOST, Problem, StrictDecoder
from sft.data.sources.json_windows import WINDOW, BrokenList, is_list, read_list_values
from sft.data.types import BadRow, Row, Source
from sft.errors import DataError

Placed = tuple[Any, int]
"""A value that was read, or the ``Problem`` in its place, and the line it begins on."""

BLANK = " \t\r\n"
_BLANK_BYTES = BLANK.encode()
_skip_blank = re.compile(r"[ \t\r\n]*").match
_skip_comma = re.compile(r"[ \t\r\n]*,[ \t\r\n]*").match
_first_byte = re.compile(rb"[^ \t\r\n]").search
_skip_gap = re.compile(r"[ \t\r\n]*(?=[^ \t\r\n])").match

CONVERSATION_KEYS = frozenset({"messages", "conversations", "conversation", "history", "tools", "prompt", "completion"})
"""Keys whose lists belong to one row: an object that has one is a row, not a wrapping around rows."""

_WIDE_ENCODINGS = ((codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))


def read_json_lines(file: BinaryIO, path: str) -> Iterator[Row | BadRow]:
    """Read one object a line. A file that is a JSON document in truth is read as one."""
    head = _first_line(file, path)
    opening = head.strip(_BLANK_BYTES)
    if opening == b"{" or opening.startswith(b"["):
        rest = file.read()
        is_whole_line = rest.strip(_BLANK_BYTES) and isinstance(_decode_line(opening, StrictDecoder()), list)
        if not is_whole_line:
            yield from read_json_document(io.BytesIO(head + rest), path)
            return
        file = io.BytesIO(rest)
    yield from read_numbered_lines(chain(io.BytesIO(head), file), path)


def read_json_document(file: BinaryIO, path: str, split: str = "train") -> Iterator[Row | BadRow]:
    """Read a .json file. ``split`` picks the list where one object holds several.

    A row is told by the line it begins on; where lines hold several, by its number.
    """
    head = file.read(WINDOW).removeprefix(codecs.BOM_UTF8)
    if _is_json_lines(head):
        yield from read_numbered_lines(_lines_of(head, file), path)
        return
    rest = file.read(1)
    if rest and is_list(head) and file.seekable():
        yield from _read_long_list(head + rest, file, path)
        return
    yield from _placed(_read_whole(head + rest + file.read(), path, split), path)


def _placed(found: Iterator[Placed], path: str) -> Iterator[Row | BadRow]:
    """Values as rows of a file. The first two show whether a line says which row is meant."""
    first = list(islice(found, 2))
    by_number = len({line for _, line in first}) < len(first)
    for number, (value, line) in enumerate(chain(first, found), 1):
        source = Source(path, number, "row") if by_number else Source(path, line)
        yield Row(value, source) if type(value) is dict else _bad_row(value, source)


def _lines_of(head: bytes, file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file of which a part was read already."""
    *lines, last = io.BytesIO(head)
    yield from lines
    yield last if last.endswith(b"\n") else last + file.readline()
    yield from file


def _read_long_list(head: bytes, file: BinaryIO, path: str) -> Iterator[Row | BadRow]:
    try:
        yield from _placed(read_list_values(head, file), path)
    except BrokenList:
        file.seek(0)
        for _ in _read_whole(file.read().removeprefix(codecs.BOM_UTF8), path, ""):
            pass  # until it says what is wrong, and where
        raise


def _read_whole(data: bytes, path: str, split: str) -> Iterator[Placed]:
    """Read a document that is in memory: its values, each with the line it begins on."""
    text = decode_utf8(data, path)
    del data
    start = _end(_skip_blank(text))
    opening = text[start : start + 1]
    if opening == "[":
        end = yield from _read_list(text, start, path)
    elif opening == "{":
        end = yield from _read_objects(text, start, path, split)
    elif not opening:
        return
    else:
        end = start
    rest = _end(_skip_blank(text, end))
    if rest < len(text):
        raise DataError(
            f"{path}:{_line_of(text, rest)}: unexpected {text[rest]!r}; "
            "a .json file holds one list of objects, or objects one after the other"
        )


def decode_utf8(data: bytes, path: str, first_line: int = 1) -> str:
    """Decode a whole text or raise a DataError with the line of the first bad byte."""
    for mark, encoding in _WIDE_ENCODINGS:
        if data.startswith(mark):
            raise DataError(f"{path}:1: the file is {encoding}; save it as UTF-8")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise DataError(f"{path}:{line}: {_not_utf8(data, error)}; save the file as UTF-8") from error


def _first_line(file: BinaryIO, path: str) -> bytes:
    """Read up to the first line that is not blank, without a byte order mark."""
    head = file.readline().removeprefix(codecs.BOM_UTF8)
    for mark, encoding in _WIDE_ENCODINGS:
        if head.startswith(mark):
            raise DataError(f"{path}:1: the file is {encoding}; save it as UTF-8")
    line = head
    while line and not line.strip(_BLANK_BYTES):
        line = file.readline()
        head += line
    return head


def read_numbered_lines(lines: Iterable[bytes], path: str, first_line: int = 1) -> Iterator[Row | BadRow]:
    """Read one object a line; blank lines are counted and left out."""
    decoder = StrictDecoder()
    for number, raw in enumerate(lines, first_line):
        stripped = raw.strip(_BLANK_BYTES)
        if stripped:
            value = _decode_line(stripped, decoder)
            source = Source(path, number)
            if type(value) is dict:
                yield Row(value, source)
            else:
                yield _bad_row(value, source, is_cut_off=not raw.endswith(b"\n"))


def _decode_line(raw: bytes, decoder: StrictDecoder) -> Any:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return Problem("not UTF-8", f"{_not_utf8(raw, error).capitalize()}; save the file as UTF-8", error.start)
    value, end = decoder.decode(text, 0)
    if end not in (LOST, len(text)):
        return Problem("not valid JSON", f"More text follows the end of the object at column {end + 1}", end)
    return value


def _not_utf8(data: bytes, error: UnicodeDecodeError) -> str:
    column = error.start - data.rfind(b"\n", 0, error.start)
    return f"byte 0x{data[error.start]:02x} at column {column} is not UTF-8"


def _bad_row(value: Any, source: Source, is_cut_off: bool = False) -> BadRow:
    if isinstance(value, Problem):
        cut = ". It is the last line and has no line break, so the file may be cut off" if is_cut_off else ""
        return BadRow(source, value.reason, value.advice + cut)
    return BadRow(source, "not an object", f"A row is written {{...}}; found {_kind(value)}")


def _kind(value: Any) -> str:
    """What JSON calls it; never what it says."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "a number"


def _is_json_lines(data: bytes) -> bool:
    """Whether the first line is an object by itself and more follows: JSON lines under the name .json."""
    first = _first_byte(data)
    if first is None or first.group() != b"{":
        return False
    line_end = data.find(b"\n", first.start())
    if line_end < 0 or _first_byte(data, line_end) is None:
        return False
    return type(_decode_line(data[first.start() : line_end].strip(_BLANK_BYTES), StrictDecoder())) is dict


def _read_list(text: str, start: int, path: str) -> Generator[Placed, None, int]:
    """Read the objects of the list that opens at ``start``; returns the position after its end."""
    position = _end(_skip_blank(text, start + 1))
    if text[position : position + 1] == "]":
        return position + 1
    position = yield from _read_values(text, position, path, _skip_comma)
    position = _end(_skip_blank(text, position))
    if text[position : position + 1] != "]":
        line = _line_of(text, position)
        if position == len(text):
            raise DataError(f"{path}:{line}: the list that opens on line {_line_of(text, start)} is never closed")
        found = text[position]
        raise DataError(f"{path}:{line}: a comma or ] must follow the row that ends here, found {found!r}")
    return position + 1


def _read_values(text: str, position: int, path: str, skip_separator: Any) -> Generator[Placed, None, int]:
    """Read values for as long as separators lead to further ones; returns the position after the last."""
    decoder = StrictDecoder()
    line, counted = 1, 0
    while True:
        line += text.count("\n", counted, position)
        counted = position
        value, end = decoder.decode(text, position)
        if end == LOST:
            raise _broken(text, value, path, line)
        yield value, line
        separator = skip_separator(text, end)
        if separator is None:
            return end
        position = separator.end()


def _broken(text: str, problem: Problem, path: str, line: int) -> DataError:
    at = _line_of(text, problem.position)
    begins = f" The row begins on line {line}." if at != line else ""
    return DataError(f"{path}:{at}: {problem.reason}. {problem.advice}.{begins}")


def _read_objects(text: str, start: int, path: str, split: str) -> Generator[Placed, None, int]:
    """Read one object that wraps a list of rows, or is a row; or several objects."""
    members, end = _members(text, start)
    if end != LOST and _end(_skip_blank(text, end)) == len(text):
        position = _wrapped_list(members, path, _line_of(text, start), split)
        if position is not None:
            yield from _read_list(text, position, path)
            return end
    return (yield from _read_values(text, start, path, _skip_gap))


def _members(text: str, start: int) -> tuple[dict[str, tuple[Any, int]], int]:
    """Return key -> (value, its position) of the object at ``start``, and the position after it, or LOST."""
    decode = json.JSONDecoder().raw_decode
    members: dict[str, tuple[Any, int]] = {}
    position = start
    try:
        while text[position : position + 1] in ("{", ","):
            key, position = decode(text, _end(_skip_blank(text, position + 1)))
            colon = _end(_skip_blank(text, position))
            if text[colon : colon + 1] != ":":
                break
            at = _end(_skip_blank(text, colon + 1))
            value, position = decode(text, at)
            members[str(key)] = (value, at)
            position = _end(_skip_blank(text, position))
    except (ValueError, RecursionError):
        return members, LOST  # said with its place when the object is read strictly, as a row
    return members, position + 1 if text[position : position + 1] == "}" else LOST


def _wrapped_list(members: dict[str, tuple[Any, int]], path: str, line: int, split: str) -> int | None:
    """Return where the list of rows begins that an object holds; None if the object is a row itself."""
    if not CONVERSATION_KEYS.isdisjoint(members):
        return None
    lists = {key: at for key, (value, at) in members.items() if _is_list_of_rows(value)}
    if split in lists:
        return lists[split]
    if len(lists) > 1:
        raise DataError(
            f"{path}:{line}: the object holds several lists of rows ({', '.join(lists)}) and none is called {split!r}; "
            "choose one with split"
        )
    return next(iter(lists.values()), None)


def _is_list_of_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _end(match: re.Match[str] | None) -> int:
    if match is None:
        raise AssertionError("a pattern that matches the empty string always matches")
    return match.end()
