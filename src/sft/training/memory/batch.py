"""The heaviest batch of a run: the one that decides how much memory it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sft.config import SFTConfig
from sft.data.collate import TrainingRows
from sft.data.types import Example, Source

Rows = Sequence[Sequence[Example]]


@dataclass(frozen=True)
class HeaviestBatch:
    """Rows of one forward pass on one device."""

    rows: Rows
    packed: bool
    """Rows hold several examples that do not see each other."""
    weighted: bool
    is_imagined: bool
    """Made up from the config: there is no data."""
    of: str = "the data"
    """What it is the heaviest of, for people."""

    @property
    def width(self) -> int:
        """Slots of a row, after padding."""
        return max(sum(len(example) for example in row) for row in self.rows)

    @property
    def slots(self) -> int:
        """Tokens and padding of all rows."""
        return len(self.rows) * self.width

    def describe(self) -> str:
        """'4 rows of 2,048 tokens', for people."""
        plural = "s" if len(self.rows) > 1 else ""
        made_up = ", all of them trained" if self.is_imagined else f", the longest of {self.of}"
        return f"{len(self.rows)} row{plural} of {self.width:,} tokens{made_up}"


def heaviest_batch(rows: TrainingRows, groups: Sequence[Sequence[int]] | None, *, batch_size: int) -> HeaviestBatch:
    """The longest rows of prepared data, as many as share a forward pass.

    Args:
        groups: rows that share one, where that is decided by their tokens; ``batch_size`` is of no meaning then.
    """
    lengths = rows.lengths
    if groups is None:
        chosen = np.argsort(-lengths, kind="stable")[:batch_size].tolist()
    else:
        chosen = max(groups, key=lambda group: len(group) * int(lengths[list(group)].max()))
    return HeaviestBatch([rows[index] for index in chosen], rows.packs is not None, rows.store.weighted, False)


def imagined_batch(config: SFTConfig, *, batch_size: int) -> HeaviestBatch:
    """Rows of max_length tokens, each one document that is trained whole: nothing heavier can come."""
    row = [_stand_in(config.max_length)] * (2 if config.stage == "dpo" else 1)
    return HeaviestBatch([row] * batch_size, config.packing or config.isolate_documents, False, True)


def parts_of_rows(batch: HeaviestBatch, size: int) -> HeaviestBatch:
    """The same where ``size`` devices share each row: one document of their part of it."""
    if size == 1:
        return batch
    row = [_stand_in(-(-batch.width // size))]
    return HeaviestBatch([row] * len(batch.rows), batch.packed, batch.weighted, batch.is_imagined)


def _stand_in(length: int) -> Example:
    trained = np.ones(length, np.uint8)
    return Example(input_ids=np.zeros(length, np.int32), loss_mask=trained, text="", source=Source("no data", 1))


def shortened(batch: HeaviestBatch, width: int) -> HeaviestBatch:
    """As many rows, of ``width`` tokens each."""
    row = [_stand_in(width)] * (len(batch.rows[0]) if not batch.packed else 1)
    return HeaviestBatch([row] * len(batch.rows), batch.packed, batch.weighted, batch.is_imagined)
