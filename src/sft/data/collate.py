"""Fifth hop: rows of examples -> tensors.

A slot is padding because no token was put there. Token ids never decide a label, so a model whose padding token is
its end token still learns to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sft.data.documents import find_documents
from sft.data.loss_groups import LossGroups
from sft.data.store import ExampleStore
from sft.data.types import Batch, Example, Pack

NOT_TRAINED = -100
EMPTY_ROW = -1


class RowGroup(list[list[Example]]):
    """Rows that make a batch, where batches are formed before the collator sees them."""


class TrainingRows:
    """What a DataLoader indexes: row ``i`` is the list of examples that share it; ``EMPTY_ROW`` holds none.

    Empty rows fill up the last step of an epoch where the processes would otherwise get unequal numbers of rows.
    They carry no label, so they change neither the loss nor its divisor.

    Args:
        computed: tokens of each example that go through the model, from its beginning, shape (examples,); None: all.
    """

    def __init__(
        self, store: ExampleStore, packs: Sequence[Pack] | None = None, *, computed: npt.NDArray[np.int64] | None = None
    ) -> None:
        self.store = store
        self.packs = packs
        self._computed = store.lengths if computed is None else computed

    def __len__(self) -> int:
        return len(self.store) if self.packs is None else len(self.packs)

    def __getitem__(self, index: int) -> list[Example]:
        if index == EMPTY_ROW:
            return []
        return [self.example(i) for i in ([index] if self.packs is None else self.packs[index])]

    def example(self, index: int) -> Example:
        """One example, as far as it goes through the model."""
        example, length = self.store[index], int(self._computed[index])
        return example if length == len(example) else example.head(length)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per row that go through the model, shape (rows,)."""
        lengths = self._computed
        if self.packs is None:
            return lengths
        return np.array([lengths[pack].sum() for pack in self.packs], dtype=np.int64)


@dataclass(frozen=True)
class Stretch:
    """The part of every row that is one process's, where several share rows: the same length for each."""

    rank: int
    size: int

    def take(self, batch: Batch, filled: npt.NDArray[np.int64]) -> Batch:
        """Its part of a batch of whole rows. ``labels`` and ``loss_weights`` have the next slot at their end, too.

        Args:
            filled: (batch, seq), 1 where a token is.
        """
        width = filled.shape[1] // self.size
        part = slice(self.rank * width, (self.rank + 1) * width)
        ahead = slice(part.start, part.stop + 1)
        labels = torch.nn.functional.pad(batch["labels"], (0, 1), value=NOT_TRAINED)[:, ahead]
        taken = Batch(input_ids=batch["input_ids"][:, part], labels=labels)
        taken["position_ids"] = batch["position_ids"][:, part]
        weights = batch.get("loss_weights", torch.ones_like(batch["labels"], dtype=torch.float32))
        weights = torch.nn.functional.pad(weights, (0, 1))[:, ahead]
        taken["num_tokens"] = int(filled[:, part].sum())
        is_trained = labels[:, 1:] != NOT_TRAINED
        taken["num_trained"] = float(weights[:, 1:][is_trained].sum(dtype=torch.float64))
        taken["num_labels"] = int(is_trained.sum())
        taken["documents"] = batch["documents"]
        if "loss_weights" in batch:
            taken["loss_weights"] = weights
        return taken


@dataclass(frozen=True)
class Collator:
    """Rows of examples -> ``Batch``, padded on the right to the longest row."""

    pad_token_id: int
    packed: bool
    """Rows hold several documents: they are told apart by ``position_ids``, and there is no attention mask."""

    weighted: bool | None = False
    """Add ``loss_weights``; None: to batches in which a token counts for more or less than one."""

    by_document: bool = False
    """Add ``documents``, for a model that attends to each alone."""

    stretch: Stretch | None = None
    """Give this part of the rows only; ``documents`` are those of the whole rows."""

    groups: LossGroups | None = None
    """Add ``trained_groups``; not to parts of rows."""

    def __call__(self, rows: Sequence[Sequence[Example] | RowGroup]) -> Batch:
        return self._collate(_ungrouped(rows))

    def _collate(self, rows: Sequence[Sequence[Example]]) -> Batch:
        seq = max([1, *(sum(len(example) for example in row) for row in rows)])
        if self.stretch is not None:
            seq = -(-seq // self.stretch.size) * self.stretch.size
        shape = (len(rows), seq)
        ids = np.full(shape, self.pad_token_id, np.int64)
        labels = np.full(shape, NOT_TRAINED, np.int64)
        weights = np.zeros(shape, np.float32)
        positions = np.zeros(shape, np.int64)
        filled = np.zeros(shape, np.int64)
        spans: list[tuple[int, int]] = []
        groups = [np.zeros((2, 0), np.int64)]
        for row, examples in enumerate(rows):
            start = 0
            for example in examples:
                stop = start + len(example)
                ids[row, start:stop] = example.input_ids
                trained = example.loss_mask.astype(bool)
                trained[0] = False  # nothing comes before it, and in a packed row another document does
                labels[row, start:stop][trained] = example.input_ids[trained]
                weights[row, start:stop] = 1.0 if example.weights is None else example.weights
                positions[row, start:stop] = np.arange(stop - start)
                spans.append((row * seq + start, stop - start))
                if self.groups is not None:
                    groups.append(self.groups.numbers(example, trained))
                start = stop
            filled[row, :start] = 1
            positions[row, start:] = np.arange(seq - start)  # padding is a document of its own
        batch = Batch(input_ids=torch.from_numpy(ids), labels=torch.from_numpy(labels))
        batch["trained_slots"] = torch.from_numpy(np.flatnonzero(labels != NOT_TRAINED))
        if self.groups is not None:
            batch["trained_groups"] = torch.from_numpy(np.concatenate(groups, axis=1))
        if self.packed or self.stretch is not None:
            batch["position_ids"] = torch.from_numpy(positions)
        else:
            filled[filled.sum(axis=1) == 0, 0] = 1  # an empty row must attend to something
            batch["attention_mask"] = torch.from_numpy(filled)
        batch["num_tokens"] = sum(len(example) for row in rows for example in row)
        batch["num_trained"] = float(weights[labels != NOT_TRAINED].sum(dtype=np.float64))
        batch["num_labels"] = len(batch["trained_slots"])
        if self.by_document:
            batch["documents"] = find_documents(len(rows) * seq, spans)
        if self.weighted or (self.weighted is None and bool((weights[labels != NOT_TRAINED] != 1).any())):
            batch["loss_weights"] = torch.from_numpy(weights)
        return batch if self.stretch is None else self.stretch.take(batch, filled)


def _ungrouped(rows: Sequence[Sequence[Example] | RowGroup]) -> Sequence[Sequence[Example]]:
    if not any(isinstance(row, RowGroup) for row in rows):
        return rows  # type: ignore[return-value]
    return [row for group in rows for row in group] or [[]]  # type: ignore[misc]
