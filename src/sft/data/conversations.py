"""The first two hops together: from sources to conversations, with every row accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from sft.data.bad_rows import listed
from sft.data.choice import weighed
from sft.data.formats import (
    FORMATS,
    HEAD_ROWS,
    PAIR_FORMATS,
    FormatOptions,
    check_columns_exist,
    detect_format,
    detect_pairs,
)
from sft.data.sources import Part, SourceSpec, list_parts, read_part
from sft.data.sources.segments import Segment, read_segment
from sft.data.types import BadRow, Conversation, Row
from sft.errors import DataError, RowError, TooManyBadRows

PLACES_KEPT = 10
"""Bad rows of which the place is kept."""
REASONS_SHOWN = 12
"""Reasons that a message names: bad data can have as many as rows."""


@dataclass(frozen=True, kw_only=True)
class MoreRows:
    """Rows that come from elsewhere than files, and a guard over those that do come from files."""

    fingerprint: str
    """Changes when anything of them does."""

    read: Callable[[], ConversationSet]
    overlap: Callable[[Conversation], str | None]
    """Why a row from a file holds what an evaluation will ask; None where it does not."""


@dataclass(kw_only=True)
class ConversationSet:
    """Conversations in the order of their sources, and what became of every row read."""

    conversations: list[Conversation] = field(default_factory=list)
    formats: dict[str, str] = field(default_factory=dict)
    """Per file or hub data set: the format, and why it is that one."""

    rejected: Counter[str] = field(default_factory=Counter)
    """Rows that could not be used, by reason. Before weights, rows = conversations + rejected + those left out."""

    rejected_places: list[str] = field(default_factory=list)
    """The first of them, each with file, line and reason."""

    bad_rows: list[dict[str, Any]] = field(default_factory=list)
    """All of them, for the file ``bad_rows.jsonl``."""

    num_rows: int = 0
    """Rows read, good and bad, each counted once whatever its weight."""

    overlapping: Counter[str] = field(default_factory=Counter)
    """Rows that hold what an evaluation will ask, by task and how; left out unless ``allow_contamination``."""

    duplicates: int = 0
    """Rows that say exactly what an earlier one says; left out (``deduplicate``)."""

    notes: list[str] = field(default_factory=list)
    """What a person should know, such as files of a folder that were skipped."""

    def reject(self, row: BadRow) -> None:
        """Count a row that cannot be used."""
        self.rejected[row.reason] += 1
        if len(self.rejected_places) < PLACES_KEPT:
            self.rejected_places.append(str(row))
        self.bad_rows.append(listed(row))

    def join(self, other: ConversationSet) -> ConversationSet:
        """Both sets, this one first."""
        return ConversationSet(
            conversations=self.conversations + other.conversations,
            formats=self.formats | other.formats,
            rejected=self.rejected + other.rejected,
            rejected_places=(self.rejected_places + other.rejected_places)[:PLACES_KEPT],
            bad_rows=self.bad_rows + other.bad_rows,
            num_rows=self.num_rows + other.num_rows,
            overlapping=self.overlapping + other.overlapping,
            duplicates=self.duplicates + other.duplicates,
            notes=self.notes + other.notes,
        )


def read_conversations(
    specs: Sequence[SourceSpec],
    *,
    role_names: Mapping[str, str] | None = None,
    system_prompt: str | None = None,
    input_separator: str = "\n\n",
    pairs: bool = False,
    max_bad_rows: int = 0,
    seed: int = 0,
) -> ConversationSet:
    """Read every source, find out its format, and turn its rows into conversations.

    Args:
        role_names: what roles in the data mean, over the usual names.
        system_prompt: system message for conversations that have none.
        input_separator: what stands between instruction and input.
        pairs: rows hold a better and a worse answer.
        max_bad_rows: most rows, over all sources, that may be unusable.
        seed: decides which conversations a fractional weight takes.

    Raises:
        DataError: a source cannot be read, its format cannot be told, too many rows are bad, or none is left.
    """
    found = ConversationSet()
    sources = open_sources(
        specs, role_names=role_names, system_prompt=system_prompt, input_separator=input_separator, pairs=pairs
    )
    for number, source in enumerate(sources):
        read = []
        for item in source.read(found.formats, found.notes):
            found.num_rows += 1
            if isinstance(item, BadRow):
                found.reject(item)
            else:
                read.append(item)
        taken = weighed(len(read), source.spec.weight, source.spec.sample, f"{seed}:{number}")
        found.conversations += [read[position] for position in taken.tolist()]
    refuse_bad_rows(
        found.rejected, found.rejected_places, rows=found.num_rows, max_bad_rows=max_bad_rows, listed=found.bad_rows
    )
    if not found.conversations:
        raise DataError(explain_none(specs, found.num_rows, found.rejected))
    return found


Item = Conversation | BadRow
"""What a row becomes."""


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A source, and how its rows become conversations."""

    spec: SourceSpec
    options: FormatOptions

    def read(self, formats: dict[str, str], notes: list[str]) -> Iterator[Item]:
        """Every row in order; formats found out and notes for people are entered."""
        left = self.spec.limit
        for part in self.parts(notes):
            for item in read_part_of(part, self.options, formats, left):
                left = None if left is None else left - 1
                yield item

    def parts(self, notes: list[str]) -> list[Part]:
        """The files behind it."""
        parts, skipped = list_parts(self.spec)
        if skipped:
            shown = ", ".join(skipped[:5]) + (f" and {len(skipped) - 5} more" if len(skipped) > 5 else "")
            notes.append(f"{self.spec.path}: {len(parts)} data files are read; skipped: {shown}")
        return parts


def open_sources(
    specs: Sequence[SourceSpec],
    *,
    role_names: Mapping[str, str] | None = None,
    system_prompt: str | None = None,
    input_separator: str = "\n\n",
    pairs: bool = False,
) -> list[OpenSource]:
    """Sources with what a user says of all of them; see ``read_conversations``."""
    return [
        OpenSource(
            spec,
            FormatOptions(
                columns=spec.columns,
                pairs=pairs,
                only_columns=spec.only_columns,
                role_names={**(role_names or {}), **spec.role_names},
                role_key=spec.role_key,
                content_key=spec.content_key,
                drop_system=spec.drop_system,
                response_prefix=spec.response_prefix,
                system_prompt=system_prompt,
                input_separator=input_separator,
            ),
        )
        for spec in specs
    ]


def read_part_of(part: Part, options: FormatOptions, formats: dict[str, str], limit: int | None) -> Iterator[Item]:
    """Convert at most ``limit`` rows of one part, having looked at its first rows to learn the format."""
    if limit == 0:
        return
    rows = read_part(part)
    head = _read_head(rows)
    format_type = _format_of(part, head, options, formats)
    yield from _convert_rows(islice(chain(head, rows), limit), format_type, options)


def read_segment_of(segment: Segment, options: FormatOptions, formats: dict[str, str]) -> Iterator[Item]:
    """Convert the rows of a segment; the format is that of the part, by its first rows."""
    head = _read_head(read_part(segment.part))
    format_type = _format_of(segment.part, head, options, formats)
    yield from _convert_rows(read_segment(segment), format_type, options)


def _format_of(part: Part, head: Sequence[Row | BadRow], options: FormatOptions, formats: dict[str, str]) -> str:
    good = [row for row in head if isinstance(row, Row)]
    said = part.spec.format_type
    if said is not None:
        check_columns_exist(good, part.spec.columns)
        formats[part.shown] = f"{said}: as format_type says"
        return said
    if not good:
        return "messages"  # there is no row to convert
    detection = (detect_pairs if options.pairs else detect_format)(good, part.spec.columns)
    formats[part.shown] = str(detection)
    return detection.format_type


def _convert_rows(rows: Iterable[Row | BadRow], format_type: str, options: FormatOptions) -> Iterator[Item]:
    """Rows of one format -> conversations; those that cannot be used say why."""
    convert = (PAIR_FORMATS if options.pairs else FORMATS)[format_type]
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            item: Item = convert(row, options)
        except RowError as error:
            item = BadRow(row.source, error.reason, error.advice)
        yield item


def _read_head(rows: Iterator[Row | BadRow]) -> list[Row | BadRow]:
    """Take rows until enough good ones are there to tell the format by."""
    head: list[Row | BadRow] = []
    num_good = 0
    for row in rows:
        head.append(row)
        num_good += isinstance(row, Row)
        if num_good == HEAD_ROWS:
            break
    return head


def refuse_bad_rows(
    rejected: Counter[str],
    places: Sequence[str],
    *,
    rows: int,
    max_bad_rows: int,
    listed: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Raise when more rows are unusable than the user allows.

    Args:
        rejected: unusable rows by reason.
        places: the first of them, for the message.
        rows: rows read in all.
        listed: all of them, for ``bad_rows.jsonl``.

    Raises:
        TooManyBadRows: it holds that list.
    """
    total = rejected.total()
    if total <= max_bad_rows:
        return
    shown = "".join(f"\n  {place}" for place in places[:PLACES_KEPT])
    more = f"\n  ... and {total - PLACES_KEPT} more" if total > PLACES_KEPT else ""
    reasons = ", ".join(f"{count} x {reason}" for reason, count in rejected.most_common(REASONS_SHOWN))
    if len(rejected) > REASONS_SHOWN:
        reasons += f", and {len(rejected) - REASONS_SHOWN} other reasons"
    allowed = f"max_bad_rows allows {max_bad_rows}" if max_bad_rows else "none may be (max_bad_rows is 0)"
    way_on = f" --max_bad_rows {total} would go on without them." if total < rows else ""
    raise TooManyBadRows(
        f"{total} of {rows} rows cannot be used, and {allowed}.{shown}{more}\n"
        f"By reason: {reasons}.\nMend them, or say with format_type and columns how they are written.{way_on}",
        listed,
    )


def explain_none(specs: Sequence[SourceSpec], num_rows: int, rejected: Counter[str]) -> str:
    """Say why there is nothing to train on."""
    named = ", ".join(spec.path for spec in specs) or "no source"
    if rejected:
        return f"{named}: all {num_rows} rows are bad ({', '.join(rejected)}), so nothing is left to train"
    if num_rows:
        return f"{named}: the weights are so small that no conversation is taken; raise weight"
    return f"{named}: no rows. The data is empty; check that the file was written to its end"
