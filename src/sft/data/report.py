"""What became of the rows: every one of them is trained on, or counted with the reason why not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sft.data.bad_rows import LISTED, Refused, listed

PLACES_KEPT = 20
REASONS_SHOWN = 12
ENOUGH = 0.95
"""Share of the examples that a max_length should keep."""
COUNTERS = ("rejected", "overlapping", "dropped", "dropped_tokens")


@dataclass(kw_only=True)
class DataReport:
    """Counts of one prepared part (train or eval)."""

    rows: int = 0
    """Rows read."""

    conversations: int = 0
    """Rows that became a conversation, after weights and limits of their sources."""

    rejected: Counter[str] = field(default_factory=Counter)
    """Rows that could not be used, by reason."""

    rejected_places: list[str] = field(default_factory=list)
    """The first few of them: place and reason."""

    bad_rows: list[dict[str, Any]] = field(default_factory=list)
    """All of them, for the file ``bad_rows.jsonl``; at most ``LISTED``."""

    overlapping: Counter[str] = field(default_factory=Counter)
    """Rows that hold what an evaluation will ask, by task and how."""

    contaminated: bool = False
    """They were trained on all the same, because ``allow_contamination`` said so. False: they were left out."""

    duplicates: int = 0
    """Rows that say exactly what an earlier one says, and were left out."""

    not_sampled: int = 0
    """Conversations left out because ``max_train_samples`` takes no more."""

    held_out: int = 0
    """Conversations taken out for the evaluation loss (``validation_size``), each counted once whatever its weight."""

    dropped: Counter[str] = field(default_factory=Counter)
    """Examples left out because of their length, by reason."""

    dropped_lengths: list[int] = field(default_factory=list)
    """Their lengths in tokens."""

    dropped_tokens: Counter[str] = field(default_factory=Counter)
    """Their tokens, by reason."""

    cut: int = 0
    """Examples shortened to max_length."""

    cut_tokens: int = 0
    """Tokens that they lost."""

    rendered: int = 0
    """Examples before their lengths were looked at (stage pretrain: documents). Without blocks: examples + dropped."""

    rendered_tokens: int = 0
    """Their tokens: those of the examples + cut_tokens + dropped_tokens."""

    split: int = 0
    """Conversations trained as one example per answer, because the template rewrites history."""

    documents: int = 0
    """Stage pretrain: texts that were cut into blocks."""

    blocks: int = 0
    """Stage pretrain: rows of max_length tokens that they became."""

    pairs: int = 0
    """Stage dpo: prompts with two answers, each an example."""

    examples: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    formats: dict[str, str] = field(default_factory=dict)
    """Format per source, and how it was found out."""

    notes: list[str] = field(default_factory=list)
    """What a person should know of the sources, such as files of a folder that were skipped."""

    generation_kwargs: dict[str, Any] = field(default_factory=dict)
    """Template variables that chat and evaluation must set to meet the trained prompt."""

    stop_token_ids: list[int] = field(default_factory=list)
    """Tokens that end a trained answer."""

    def reject(self, row: Refused) -> None:
        """Count and list a row that cannot be used."""
        self.rejected[row.reason] += 1
        if len(self.rejected_places) < PLACES_KEPT:
            self.rejected_places.append(str(row))
        if len(self.bad_rows) < LISTED:
            self.bad_rows.append(listed(row))

    def drop(self, place: str, reason: str, length: int, tokens: int | None = None) -> None:
        """Count an example left out because of its length.

        Args:
            place: for those who name each one.
            length: in tokens, as it is held against the limit.
            tokens: that it had; None: as many.
        """
        self.dropped[reason] += 1
        self.dropped_lengths.append(length)
        self.dropped_tokens[reason] += length if tokens is None else tokens

    def add(self, other: DataReport) -> None:
        """Take in what became of further rows."""
        for name, value in vars(other).items():
            own = getattr(self, name)
            if isinstance(value, bool):
                setattr(self, name, own or value)
            elif isinstance(value, int | Counter):
                setattr(self, name, own + value)
            elif isinstance(value, dict):
                own.update(value)
            else:
                own.extend(value)
        self.stop_token_ids = sorted(set(self.stop_token_ids))
        del self.rejected_places[PLACES_KEPT:]
        del self.bad_rows[LISTED:]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**vars(self), **{name: dict(getattr(self, name)) for name in COUNTERS}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataReport:
        """The inverse of ``to_dict``."""
        counters = {name: Counter(values[name]) for name in COUNTERS}
        return cls(**{**values, **counters})


def explain_nothing_trained(report: DataReport, max_length: int) -> str:
    """Say why no token is left to train, and what would leave some."""
    if not report.rows:
        return "the data has no rows"
    longer = sorted(length for length in report.dropped_lengths if length > max_length)
    if longer:
        total = report.examples + len(longer)
        enough = _round_up(longer[int(0.95 * (len(longer) - 1))])
        kept = report.examples + sum(length <= enough for length in longer)
        return (
            f"{len(longer)} of {total} examples are longer than max_length {max_length} "
            f"(shortest {longer[0]}, longest {longer[-1]} tokens); max_length {enough} would keep {kept}"
        )
    if report.dropped:
        return f"every example was left out: {count_reasons(report.dropped)}"
    if report.overlapping and not report.contaminated:
        return (
            f"{report.overlapping.total()} of {report.rows} rows hold what eval_tasks will ask and were left out: "
            f"{count_reasons(report.overlapping)}. Train on other rows, evaluate other tasks, or keep them with "
            "allow_contamination: the results will say so" + "".join(f". {note}" for note in report.notes)
        )
    if report.rejected:
        return f"all {report.rows} rows were rejected: {count_reasons(report.rejected)}"
    return "no answer in the data carries a trained token"


def lengths_that_would_keep(report: DataReport, max_length: int) -> str:
    """Which max_length would keep 95 % and all of what max_length leaves out; empty where it leaves out 5 % or less."""
    longer = sorted(length for length in report.dropped_lengths if length > max_length)
    kept = report.pairs or report.examples
    total = kept + len(longer)
    if len(longer) <= total * (1 - ENOUGH):
        return ""
    enough = _round_up(longer[math.ceil(ENOUGH * total) - kept - 1])
    every = f"max_length {longer[-1]} would keep all {total:,} of them"
    if enough >= longer[-1]:
        return every
    share = (kept + sum(length <= enough for length in longer)) / total
    return f"max_length {enough} would keep {math.floor(share * 100)}% of all {total:,}, {longer[-1]} every one"


def count_reasons(reasons: Counter[str]) -> str:
    """'12 empty answer, 3 unknown role' in falling order; reasons are as many as bad data can think of."""
    shown = [f"{count} {reason}" for reason, count in reasons.most_common(REASONS_SHOWN)]
    if len(reasons) > len(shown):
        left = sum(count for _, count in reasons.most_common()[REASONS_SHOWN:])
        shown.append(f"{left} for {len(reasons) - REASONS_SHOWN} other reasons")
    return ", ".join(shown)


def histogram(lengths: Sequence[int]) -> dict[str, int]:
    """Shortest, median, 95th percentile and longest."""
    if not len(lengths):
        return {}
    ordered = sorted(int(length) for length in lengths)
    last = len(ordered) - 1
    return {
        "shortest": ordered[0],
        "median": ordered[last // 2],
        "p95": ordered[int(0.95 * last)],
        "longest": ordered[-1],
    }


def _round_up(length: int) -> int:
    """The next multiple of 64, or power of two if that is near."""
    power = 1 << (length - 1).bit_length()
    return power if power <= 1.25 * length else -(-length // 64) * 64
