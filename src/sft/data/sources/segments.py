"""Parts that are cut into segments, each of which can be read without the others: plain files of JSON lines.

Where to cut follows from the file alone, so that one process or several, interrupted or not, find the same segments.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from sft.data.sources import Part
from sft.data.sources.files import kind_of, open_data
from sft.data.sources.json_rows import read_numbered_lines
from sft.data.types import BadRow, Row

SEGMENT_BYTES = 1 << 25
"""Files of more bytes are cut."""

LINES = (".jsonl", ".ndjson")
_COUNTED = 1 << 22


@dataclass(frozen=True, slots=True)
class Segment:
    """Some of the lines of a file."""

    part: Part
    start: int
    """Byte that the first line begins at."""
    stop: int
    """Byte after the last line."""
    first_line: int
    """Its number, from 1."""


def cut_part(part: Part, size: int = SEGMENT_BYTES) -> list[Segment]:
    """The segments of a part, in order, of about ``size`` bytes each; none where it can only be read as a whole.

    Lines are counted on the way, so the file is read through once.
    """
    if not _is_plain_lines(part.path) or part.path is None or os.path.getsize(part.path) <= size:
        return []
    with open_data(part.path, part.shown) as file:
        total = os.path.getsize(part.path)
        if not _begins_with_an_object(file.readline()):
            return []
        borders = {0, total}
        for place in range(size, total, size):
            file.seek(place)
            file.readline()
            borders.add(file.tell())
        segments, line = [], 1
        file.seek(0)
        for start, stop in pairwise(sorted(borders)):
            segments.append(Segment(part, start, stop, line))
            left = stop - start
            while left:
                block = file.read(min(left, _COUNTED))
                line += block.count(b"\n")
                left -= len(block)
    return segments


def read_segment(segment: Segment) -> Iterator[Row | BadRow]:
    """Read every row of a segment."""
    part = segment.part
    assert part.path is not None, "only files are cut"
    with open_data(part.path, part.shown) as file:
        file.seek(segment.start)
        yield from read_numbered_lines(_until(file, segment.stop - segment.start), part.shown, segment.first_line)


def _until(lines: Iterator[bytes], size: int) -> Iterator[bytes]:
    for line in lines:
        yield line
        size -= len(line)
        if size <= 0:
            return


def _is_plain_lines(path: str | None) -> bool:
    kind = None if path is None or not os.path.isfile(path) else kind_of(path)
    return kind is not None and kind.suffix in LINES and not kind.compression


def _begins_with_an_object(line: bytes) -> bool:
    """Whether the first line is a row by itself; else it may be a document, or begin with a byte order mark."""
    try:
        return type(json.loads(line.decode())) is dict
    except ValueError:  # also of text that is no UTF-8
        return False
