"""All conversations of some sources, read beforehand and counted, where only some of them are wanted.

What is small is kept meanwhile; what is large is read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from sft.config import SFTConfig
from sft.data.choice import Numbers, weighed, without_equals
from sft.data.conversations import PLACES_KEPT, Item, MoreRows, OpenSource, explain_none, refuse_bad_rows
from sft.data.duplicates import digest
from sft.data.lanes import Reading
from sft.data.report import DataReport
from sft.data.types import BadRow, Conversation
from sft.errors import DataError

KEPT_CHARACTERS = 1 << 26
"""Most text that is kept in memory while conversations are chosen."""


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
