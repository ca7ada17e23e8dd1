"""Reading a file of a benchmark: every row must be whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from sft.data.sources import SourceSpec, read_rows
from sft.data.sources.json_rows import read_json_lines
from sft.data.types import BadRow, Row
from sft.errors import DataError


def whole_rows(rows: Iterable[Row | BadRow]) -> Iterator[Row]:
    """Pass rows on; the first that cannot be read ends it, because a score over the rest would mean something else.

    Raises:
        DataError: naming the row.
    """
    for row in rows:
        if isinstance(row, BadRow):
            raise DataError(str(row))
        yield row


def read_file(path: str) -> Iterator[Row]:
    """Rows of a local .jsonl, .json, .csv or .parquet file."""
    return whole_rows(read_rows(SourceSpec(path=path)))


def read_lines(file: BinaryIO, shown: str) -> Iterator[Row]:
    """Rows of an open file of JSON lines; messages call it ``shown``."""
    return whole_rows(read_json_lines(file, shown))
