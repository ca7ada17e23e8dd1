"""The first two hops together: from sources to conversations, with every row accounted for."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

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
from sft.data.types import BadRow, Conversation, Row
from sft.errors import DataError, RowError

PLACES_KEPT = 10
"""Bad rows of which the place is kept."""


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

    num_rows: int = 0
    """Rows read, good and bad, each counted once whatever its weight."""

    overlapping: Counter[str] = field(default_factory=Counter)
    """Rows that hold what an evaluation will ask, by task and how; left out unless ``allow_contamination``."""

    duplicates: int = 0
    """Rows that say exactly what an earlier one says; left out (``deduplicate``)."""

    notes: list[str] = field(default_factory=list)
    """What a person should know, such as files of a folder that were skipped."""

    def join(self, other: ConversationSet) -> ConversationSet:
        """Both sets, this one first."""
        return ConversationSet(
            conversations=self.conversations + other.conversations,
            formats=self.formats | other.formats,
            rejected=self.rejected + other.rejected,
            rejected_places=(self.rejected_places + other.rejected_places)[:PLACES_KEPT],
            num_rows=self.num_rows + other.num_rows,
            overlapping=self.overlapping + other.overlapping,
            duplicates=self.duplicates + other.duplicates,
            notes=self.notes + other.notes,
        )

    def select(self, positions: Iterable[int], *, rejected: bool = True) -> ConversationSet:
        """Return the conversations at these positions; ``rejected`` says whether the account of bad rows goes along."""
        chosen = [self.conversations[position] for position in positions]
        bad = self.rejected.total() if rejected else 0
        return ConversationSet(
            conversations=chosen,
            formats=dict(self.formats),
            rejected=self.rejected.copy() if rejected else Counter(),
            rejected_places=list(self.rejected_places) if rejected else [],
            num_rows=len(chosen) + bad,
            overlapping=self.overlapping.copy() if rejected else Counter(),
            duplicates=self.duplicates if rejected else 0,
            notes=list(self.notes) if rejected else [],
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
    for number, spec in enumerate(specs):
        options = FormatOptions(
            columns=spec.columns,
            pairs=pairs,
            only_columns=spec.only_columns,
            role_names={**(role_names or {}), **spec.role_names},
            role_key=spec.role_key,
            content_key=spec.content_key,
            drop_system=spec.drop_system,
            system_prompt=system_prompt,
            input_separator=input_separator,
            response_prefix=spec.response_prefix,
        )
        read = _read_source(spec, options, found)
        weight = spec.weight if spec.sample is None else spec.sample / max(1, len(read))
        found.conversations += _weigh(read, weight, random.Random(f"{seed}:{number}"))
    refuse_bad_rows(found.rejected, found.rejected_places, rows=found.num_rows, max_bad_rows=max_bad_rows)
    if not found.conversations:
        raise DataError(_explain_none(specs, found))
    return found


def _read_source(spec: SourceSpec, options: FormatOptions, found: ConversationSet) -> list[Conversation]:
    """Return the conversations of one source; bad rows, formats and counts are entered into ``found``."""
    parts, skipped = list_parts(spec)
    if skipped:
        shown = ", ".join(skipped[:5]) + (f" and {len(skipped) - 5} more" if len(skipped) > 5 else "")
        found.notes.append(f"{spec.path}: {len(parts)} data files are read; skipped: {shown}")
    conversations = []
    before = found.num_rows
    for part in parts:
        remaining = None if spec.limit is None else spec.limit - (found.num_rows - before)
        for result in _read_part(part, spec, options, found.formats, remaining):
            found.num_rows += 1
            if isinstance(result, BadRow):
                found.rejected[result.reason] += 1
                if len(found.rejected_places) < PLACES_KEPT:
                    found.rejected_places.append(str(result))
            else:
                conversations.append(result)
    return conversations


def _read_part(
    part: Part, spec: SourceSpec, options: FormatOptions, formats: dict[str, str], limit: int | None
) -> Iterator[Conversation | BadRow]:
    """Convert at most ``limit`` rows of one part, having looked at its first rows to learn the format."""
    if limit == 0:
        return
    rows = read_part(part)
    head = _read_head(rows)
    good = [row for row in head if isinstance(row, Row)]
    if spec.format_type is not None:
        check_columns_exist(good, spec.columns)
        format_type = spec.format_type
        formats[part.shown] = f"{format_type}: as format_type says"
    elif good:
        detection = (detect_pairs if options.pairs else detect_format)(good, spec.columns)
        format_type = detection.format_type
        formats[part.shown] = str(detection)
    else:
        format_type = "messages"  # there is no row to convert
    convert = (PAIR_FORMATS if options.pairs else FORMATS)[format_type]
    for number, row in enumerate(chain(head, rows), 1):
        if isinstance(row, BadRow):
            yield row
        else:
            try:
                yield convert(row, options)
            except RowError as error:
                yield BadRow(row.source, error.reason, error.advice)
        if number == limit:
            return


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


def _weigh(conversations: list[Conversation], weight: float, chance: random.Random) -> list[Conversation]:
    """Repeat the list for the whole part of ``weight`` and add a random share, in order, for the rest."""
    whole = int(weight)
    count = int((weight - whole) * len(conversations) + 0.5)
    share = sorted(chance.sample(range(len(conversations)), count))
    return conversations * whole + [conversations[position] for position in share]


def refuse_bad_rows(rejected: Counter[str], places: Sequence[str], *, rows: int, max_bad_rows: int) -> None:
    """Raise when more rows are unusable than the user allows.

    Args:
        rejected: unusable rows by reason.
        places: the first of them, for the message.
        rows: rows read in all.
    """
    total = rejected.total()
    if total <= max_bad_rows:
        return
    shown = "".join(f"\n  {place}" for place in places[:PLACES_KEPT])
    more = f"\n  ... and {total - PLACES_KEPT} more" if total > PLACES_KEPT else ""
    reasons = ", ".join(f"{count} x {reason}" for reason, count in rejected.most_common())
    allowed = f"max_bad_rows allows {max_bad_rows}" if max_bad_rows else "none may be (max_bad_rows is 0)"
    way_on = f" --max_bad_rows {total} would go on without them." if total < rows else ""
    raise DataError(
        f"{total} of {rows} rows cannot be used, and {allowed}.{shown}{more}\n"
        f"By reason: {reasons}.\nMend them, or say with format_type and columns how they are written.{way_on}"
    )


def _explain_none(specs: Sequence[SourceSpec], found: ConversationSet) -> str:
    named = ", ".join(spec.path for spec in specs) or "no source"
    if found.rejected:
        return f"{named}: all {found.num_rows} rows are bad ({', '.join(found.rejected)}), so nothing is left to train"
    if found.num_rows:
        return f"{named}: the weights are so small that no conversation is taken; raise weight"
    return f"{named}: no rows. The data is empty; check that the file was written to its end"
