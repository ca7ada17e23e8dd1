"""Many examples at once: flat arrays that lie one after the other, as the store keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sft.data.types import Conversation, Example, Ids, Mask

NO_TURN = -1


@dataclass(frozen=True, slots=True)
class Run:
    """Examples without weights and texts, in order."""

    ids: Ids
    """Token ids of all of them, shape (tokens,)."""
    mask: Mask
    """1 where a token is trained, shape (tokens,)."""
    offsets: npt.NDArray[np.int64]
    """Where each begins, and where the last ends, shape (examples + 1,)."""
    turns: npt.NDArray[np.int32]
    """The one message that is trained where the conversation was split, else ``NO_TURN``, shape (examples,)."""
    conversations: Sequence[Conversation]
    """Which one each is of."""
    num_split: int = 0
    """Conversations of it that became several examples."""

    def __len__(self) -> int:
        return len(self.turns)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per example, shape (examples,)."""
        return self.offsets[1:] - self.offsets[:-1]

    def part(self, first: int, stop: int, num_split: int = 0) -> Run:
        """Some of the examples; of how many conversations that became several, only the caller knows."""
        start, end = self.offsets[first], self.offsets[stop]
        return Run(
            ids=self.ids[start:end],
            mask=self.mask[start:end],
            offsets=self.offsets[first : stop + 1] - start,
            turns=self.turns[first:stop],
            conversations=self.conversations[first:stop],
            num_split=num_split,
        )

    def __getitem__(self, index: int) -> Example:
        start, end = self.offsets[index], self.offsets[index + 1]
        turn = int(self.turns[index])
        return Example(
            input_ids=self.ids[start:end],
            loss_mask=self.mask[start:end],
            text="",
            source=self.conversations[index].source,
            turn=None if turn == NO_TURN else turn,
        )

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))
