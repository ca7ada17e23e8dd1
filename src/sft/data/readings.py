"""What is read for training and for evaluation: lanes of rows, each read in order and without the others.

Where every row is wanted once, rows are read as they stand: a lane for each segment of a file, or for each file. Where
some are chosen, they are all read beforehand to be counted, and one lane brings those that were chosen. What is small
is kept meanwhile; what is large is read again.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

import numpy as np

from sft.config import SFTConfig
from sft.data.choice import Numbers, choose_some, hold_out, weighed, without_equals
from sft.data.conversations import (
    PLACES_KEPT,
    Item,
    MoreRows,
    OpenSource,
    explain_none,
    open_sources,
    read_part_of,
    read_segment_of,
    refuse_bad_rows,
)
from sft.data.duplicates import digest
from sft.data.formats import FormatOptions
from sft.data.report import DataReport
from sft.data.sources import Part, SourceSpec, parse_sources
from sft.data.sources.segments import Segment, cut_part
from sft.data.types import BadRow, Conversation
from sft.errors import DataError

KEPT_CHARACTERS = 1 << 26
"""Most text that is kept in memory while conversations are chosen."""


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


@dataclass(frozen=True, slots=True, eq=False)
class ChosenLane:
    """Conversations that were chosen, and nothing of the others."""

    census: Census
    chosen: Numbers

    @property
    def size(self) -> int:
        """See ``Lane``."""
        return len(self.chosen)

    def read(self, formats: dict[str, str]) -> Iterator[Item]:
        """See ``Lane``."""
        return self.census.take(self.chosen)


def open_readings(config: SFTConfig, more: MoreRows | None = None) -> dict[str, Reading]:
    """What is read for training and, where there is any, for evaluation.

    Raises:
        DataError: rows had to be counted beforehand, and too many of them are bad, or none is left.
    """
    train = _sources(config, config.data_path)
    if config.eval_data_path is not None:
        evaluation = _sources(config, config.eval_data_path)
        readings = _open_train(train, config, more, 0)
        return {**readings, "eval": _open_all(evaluation, config)}
    return _open_train(train, config, more, config.validation_size or 0)


def _open_all(sources: Sequence[OpenSource], config: SFTConfig) -> Reading:
    """Every row that the sources give."""
    if config.deduplicate or any(source.spec.weight != 1 or source.spec.sample for source in sources):
        census = Census.of(sources, config)
        chosen, account = census.weighed(config)
        return census.reading(chosen, account)
    account = DataReport(contaminated=config.allow_contamination)
    lanes: list[Lane] = []
    for source in sources:
        if source.spec.limit is not None:
            source.parts(account.notes)
            lanes.append(SourceLane(source))
            continue
        for part in source.parts(account.notes):
            segments = cut_part(part)
            lanes += [SegmentLane(segment, source.options) for segment in segments] or [PartLane(part, source.options)]
    return Reading(lanes, account, [source.spec for source in sources])


def _open_train(
    sources: Sequence[OpenSource], config: SFTConfig, more: MoreRows | None, held_out: float
) -> dict[str, Reading]:
    if more is None and config.max_train_samples is None and not held_out:
        return {"train": _open_all(sources, config)}
    census = Census.of(sources, config, more)
    chosen, account = census.weighed(config)
    if more is not None:
        chosen = census.leave_out(chosen, account, allow=config.allow_contamination)
        chosen = np.concatenate([chosen, census.join(more, account)])
    if config.max_train_samples is not None:
        chosen = choose_some(chosen, config.max_train_samples, config.seed)
        account.rows = len(chosen) + account.rejected.total()
    if not held_out:
        return {"train": census.reading(chosen, account)}
    chosen, out = hold_out(chosen, held_out, config.seed)
    account.rows = len(chosen) + account.rejected.total()
    apart = DataReport(rows=len(out), formats=dict(account.formats), contaminated=account.contaminated)
    return {"train": census.reading(chosen, account), "eval": census.reading(out, apart)}


@dataclass
class Census:
    """All conversations of some sources, counted."""

    sources: Sequence[OpenSource]
    account: DataReport
    """What became of their rows."""
    counts: list[int] = field(default_factory=list)
    """Conversations of each source."""
    kept: list[Conversation] | None = field(default_factory=list)
    """All of them, where they are small."""
    added: list[Conversation] = field(default_factory=list)
    """Rows of tasks, numbered after those of the sources."""
    digests: list[bytes] = field(default_factory=list)
    """What tells equal ones from others, where that is asked for."""
    overlaps: dict[int, str] = field(default_factory=dict)
    """Why conversations hold what an evaluation will ask, by number."""

    @classmethod
    def of(cls, sources: Sequence[OpenSource], config: SFTConfig, more: MoreRows | None = None) -> Census:
        """Read every row once.

        Raises:
            DataError: too many rows cannot be used, or no conversation is left.
        """
        census = cls(sources, DataReport(contaminated=config.allow_contamination))
        account = census.account
        number = characters = 0
        for source in sources:
            before = number
            for item in source.read(account.formats, account.notes):
                account.rows += 1
                if isinstance(item, BadRow):
                    account.reject(item)
                    continue
                if config.deduplicate:
                    census.digests.append(digest(item))
                reason = None if more is None else more.overlap(item)
                if reason is not None:
                    census.overlaps[number] = reason
                number += 1
                if census.kept is not None:
                    census.kept.append(item)
                    characters += num_characters(item)
                    if characters > KEPT_CHARACTERS:
                        census.kept = None
            census.counts.append(number - before)
        del account.rejected_places[PLACES_KEPT:]
        refuse_bad_rows(
            account.rejected,
            account.rejected_places,
            rows=account.rows,
            max_bad_rows=config.max_bad_rows,
            listed=account.bad_rows,
        )
        return census

    def weighed(self, config: SFTConfig) -> tuple[Numbers, DataReport]:
        """The conversations that the sources give, and the account of their rows."""
        taken, before = [np.empty(0, np.int64)], 0
        for number, (source, count) in enumerate(zip(self.sources, self.counts, strict=True)):
            spec = source.spec
            taken.append(before + weighed(count, spec.weight, spec.sample, f"{config.seed}:{number}"))
            before += count
        chosen = np.concatenate(taken)
        if self.sources and not len(chosen):
            specs = [source.spec for source in self.sources]
            raise DataError(explain_none(specs, self.account.rows, self.account.rejected))
        account = DataReport()
        account.add(self.account)
        if config.deduplicate:
            chosen, account.duplicates = without_equals(chosen, self.digests)
        return chosen, account

    def leave_out(self, chosen: Numbers, account: DataReport, *, allow: bool) -> Numbers:
        """Count the conversations that hold what an evaluation will ask, and leave them out unless they are allowed."""
        is_asked = np.isin(chosen, np.fromiter(self.overlaps, np.int64, len(self.overlaps)))
        account.overlapping = Counter(self.overlaps[number] for number in chosen[is_asked].tolist())
        return chosen if allow else chosen[~is_asked]

    def join(self, more: MoreRows, account: DataReport) -> Numbers:
        """Add the rows of tasks."""
        found = more.read()
        self.added = found.conversations
        account.add(
            DataReport(
                rows=found.num_rows,
                rejected=found.rejected,
                rejected_places=found.rejected_places,
                bad_rows=found.bad_rows,
                overlapping=found.overlapping,
                formats=found.formats,
                notes=found.notes,
            )
        )
        return sum(self.counts) + np.arange(len(self.added))

    def reading(self, chosen: Numbers, account: DataReport) -> Reading:
        """Some of the conversations."""
        account.conversations = len(chosen)
        return Reading([ChosenLane(self, chosen)], account, [source.spec for source in self.sources], is_counted=True)

    def take(self, chosen: Numbers) -> Iterator[Conversation]:
        """Some of the conversations, in the order of their numbers, which may repeat."""
        if self.kept is not None:
            known = self.kept + self.added
            return (known[number] for number in chosen.tolist())
        rising = np.split(chosen, np.flatnonzero(np.diff(chosen) < 0) + 1)
        return chain.from_iterable(_only(self._all(), numbers) for numbers in rising)

    def _all(self) -> Iterator[Conversation]:
        items = chain.from_iterable(source.read({}, []) for source in self.sources)
        return chain((item for item in items if isinstance(item, Conversation)), self.added)


def _only(conversations: Iterable[Conversation], numbers: Numbers) -> Iterator[Conversation]:
    """Those of some numbers, which rise and may repeat."""
    place = 0
    for number, conversation in enumerate(conversations):
        while place < len(numbers) and numbers[place] == number:
            yield conversation
            place += 1
        if place == len(numbers):
            return


def num_characters(conversation: Conversation) -> int:
    """About how long a conversation is."""
    total = sum([len(message.content) for message in conversation.messages])
    if conversation.text is not None:
        total += len(conversation.text)
    if conversation.tokens is not None:
        total += len(conversation.tokens.ids)
    return total if conversation.rejected is None else total + num_characters(conversation.rejected)


def _sources(config: SFTConfig, data_path: str | list[object] | None) -> list[OpenSource]:
    return open_sources(
        specs_of(config, data_path) if data_path is not None else [],
        role_names=config.role_names,
        system_prompt=config.system_prompt,
        input_separator=input_separator(config),
        pairs=config.stage == "dpo",
    )


def specs_of(config: SFTConfig, data_path: str | list[object] | None) -> Sequence[SourceSpec]:
    """The sources that an option names."""
    return parse_sources(
        data_path or [],
        split=config.data_split,
        revision=config.data_revision,
        format_type=config.format_type,
        columns=config.columns,
    )


def input_separator(config: SFTConfig) -> str:
    """What stands between instruction and input."""
    if config.input_separator is not None:
        return config.input_separator
    return "\n\n" if config.use_chat_template else "\nInput: "
