"""CSV and TSV files as rows of text, each with the line it begins on."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from typing import BinaryIO

from sft.data.sources.json_rows import decode_utf8
from sft.data.types import BadRow, Row, Source
from sft.errors import DataError

DELIMITERS = {".csv": ",", ".tsv": "\t"}

_LONGEST_FIELD = 2**31 - 1
"""The csv module stops at 131,072 characters by default, which long documents exceed."""


def read_csv(file: BinaryIO, path: str, delimiter: str) -> Iterator[Row | BadRow]:
    """Read rows under a header line. Every value is text, as written; an empty field is an empty text.

    A broken quote ends the run with a located error, because it moves the border of every row behind it.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(_lines(file, path), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{line}: not valid CSV. {error}; the row begins on this line") from error
        if cells is None:
            return
        if cells and header is None:
            header = _check_header(cells, path, line, delimiter)
        elif cells and header is not None:
            yield _read_row(cells, header, Source(path, line))
        line = reader.line_num + 1


def _lines(file: BinaryIO, path: str) -> Iterator[str]:
    for number, raw in enumerate(file, 1):
        line = decode_utf8(raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw, path, number)
        if "\0" in line:
            raise DataError(f"{path}:{number}: NUL byte; files written by a crashed program often end in them")
        yield line


def _check_header(cells: list[str], path: str, line: int, delimiter: str) -> list[str]:
    other = next((mark for mark in ";\t,|" if mark != delimiter and mark in cells[0]), None)
    if len(cells) == 1 and other:
        raise DataError(
            f"{path}:{line}: the header is one column of {len(cells[0])} characters. Columns are divided by "
            f"{delimiter!r} in this kind of file and seem to be by {other!r} in this one; write it anew"
        )
    for name in cells:
        if not name.strip() or cells.count(name) > 1:
            trouble = "a column without a name" if not name.strip() else f"two columns called {name[:32]!r}"
            raise DataError(f"{path}:{line}: the header has {trouble}; the first line must name every column once")
    return cells


def _read_row(cells: list[str], header: list[str], source: Source) -> Row | BadRow:
    if len(cells) != len(header):
        return BadRow(source, "wrong number of columns", f"The header has {len(header)}, this row {len(cells)}")
    return Row(dict(zip(header, cells, strict=True)), source)
