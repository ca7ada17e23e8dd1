"""Lanes of rows, each read in order and without the others; and a reading, which is some lanes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from sft.data.conversations import Item, OpenSource, read_part_of, read_segment_of
from sft.data.formats import FormatOptions
from sft.data.report import DataReport
from sft.data.sources import Part, SourceSpec
from sft.data.sources.segments import Segment
from sft.data.types import Conversation


class Lane(Protocol):
    """Rows in order."""

    @property
    def size(self) -> int:
        """Bytes, or rows of what was chosen; 0 where it is not known."""

    def read(self, formats: dict[str, str]) -> Iterator[Item]:
        """Each row; formats that are found out are entered."""


@dataclass
class Reading:
    """What is read for one part of the data."""

    lanes: Sequence[Lane]
    account: DataReport
    """What is known of its rows beforehand."""
    specs: Sequence[SourceSpec]
    is_counted: bool = False
    """Whether the account has the rows of the lanes already."""

    def items(self) -> Iterator[Item]:
        """All of its rows; formats are entered into the account."""
        return chain.from_iterable(lane.read(self.account.formats) for lane in self.lanes)

    def conversations(self) -> Iterator[Conversation]:
        """Those that can be used."""
        return (item for item in self.items() if isinstance(item, Conversation))


@dataclass(frozen=True, slots=True)
class PartLane:
    """The rows of a file or hub data set."""

    part: Part
    options: FormatOptions

    @property
    def size(self) -> int:
        """See ``Lane``."""
        path = self.part.path
        return os.path.getsize(path) if path is not None and os.path.isfile(path) else 0

    def read(self, formats: dict[str, str]) -> Iterator[Item]:
        """See ``Lane``."""
        return read_part_of(self.part, self.options, formats, None)


@dataclass(frozen=True, slots=True)
class SegmentLane:
    """The rows of a segment of a file."""

    segment: Segment
    options: FormatOptions

    @property
    def size(self) -> int:
        """See ``Lane``."""
        return self.segment.stop - self.segment.start

    def read(self, formats: dict[str, str]) -> Iterator[Item]:
        """See ``Lane``."""
        return read_segment_of(self.segment, self.options, formats)


@dataclass(frozen=True, slots=True)
class SourceLane:
    """The rows of a source that has a limit."""

    source: OpenSource
    size: int = 0

    def read(self, formats: dict[str, str]) -> Iterator[Item]:
        """See ``Lane``."""
        return self.source.read(formats, [])
