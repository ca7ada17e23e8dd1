"""The nouns of the walk: Row -> Conversation -> Example -> Pack -> Batch.

Nothing here reads, renders or computes. A person can print any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")

Ids = npt.NDArray[np.int32]
Mask = npt.NDArray[np.uint8]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a row came from: enough to find it again with an editor."""

    path: str
    """File as the user named it, or hub data set."""

    line: int
    """First line of the row in the file, from 1; for sources without lines, the row's number, from 1."""

    unit: Literal["line", "row"] = "line"
    """What ``line`` counts."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.unit == "line" else f"{self.path} row {self.line}"


@dataclass(frozen=True, slots=True)
class Row:
    """One record exactly as read."""

    values: Mapping[str, Any]
    source: Source


@dataclass(frozen=True, slots=True)
class BadRow:
    """One record that cannot be used, and why."""

    source: Source
    reason: str
    """Short and the same for every row with the same trouble, so that rows can be counted by it."""

    advice: str = ""
    """What is particular to this row, and what to change."""

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}" + (f". {self.advice}" if self.advice else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str
    reasoning: str | None = None
    """Thoughts before the answer, where the data keeps them apart (``reasoning_content``)."""

    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """Calls as chat templates expect them: ``{"type": "function", "function": {"name": ..., "arguments": {...}}}``."""

    name: str | None = None
    tool_call_id: str | None = None

    train: bool | None = None
    """The row's own wish for this turn; None leaves it to ``train_on``."""

    weight: float = 1.0
    """How many tokens each trained token of this turn counts as."""

    def for_template(self) -> dict[str, Any]:
        """The turn as ``apply_chat_template`` takes it; keys that are not set are left out."""
        turn: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning is not None:
            turn["reasoning_content"] = self.reasoning
        if self.tool_calls:
            turn["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.name is not None:
            turn["name"] = self.name
        if self.tool_call_id is not None:
            turn["tool_call_id"] = self.tool_call_id
        return turn


@dataclass(frozen=True, slots=True, eq=False)
class TokenRow:
    """A row that was made into tokens elsewhere."""

    ids: Ids
    """Token ids, shape (length,)."""

    trained: Mask | None
    """1 where the row's labels ask for loss, shape (length,); None where it has no labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Messages in order, or a plain text; what the chat template is asked to write. Or tokens, which nothing writes."""

    messages: tuple[Message, ...]
    source: Source
    tools: tuple[Mapping[str, Any], ...] = ()
    """JSON schemas of the functions offered, untouched."""

    text: str | None = None
    """A plain text to train on as it is; then there are no messages."""

    prompt: str | None = None
    """With ``text``: the untrained head of it (prompt/completion rows that name no roles)."""

    tokens: TokenRow | None = None
    """What the row has in place of messages and text, where it was made into tokens elsewhere."""

    rejected: Conversation | None = None
    """In a preference row: the same conversation, but for the last answer, which is worse."""

    weight: float = 1.0
    """How many tokens each trained token of the row counts as; multiplies the weights of its turns."""

    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Variables that this row hands to the template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One trained sequence: token ids and the loss mask, made together."""

    input_ids: Ids
    """Token ids, shape (length,)."""

    loss_mask: Mask
    """1 where the token is trained, shape (length,)."""

    text: str
    """What was encoded; ``input_ids`` are its tokens and nothing else."""

    source: Source
    turn: int | None = None
    """Set when the conversation was split: index of the one message trained here."""

    weights: Weights | None = None
    """Loss weight per token, shape (length,); None when every weight is 1."""

    trained_text: tuple[str, ...] = ()
    """The trained stretches of ``text``, one per trained turn, each with the token that ends it."""

    trained_turns: tuple[int, ...] = ()
    """Index of the message behind each entry of ``trained_text``."""

    answer_kwargs: str | None = None
    """Template variables that its answers were written with, as JSON text; None where it has no answer, and for
    examples that were rendered by their shape."""

    def __len__(self) -> int:
        return len(self.input_ids)

    def head(self, length: int) -> Example:
        """Its first ``length`` tokens, without the text."""
        return Example(
            input_ids=self.input_ids[:length],
            loss_mask=self.loss_mask[:length],
            text="",
            source=self.source,
            turn=self.turn,
            weights=None if self.weights is None else self.weights[:length],
        )

    @property
    def num_trained_tokens(self) -> int:
        """Tokens with mask 1. The first token of a sequence is never predicted, so it is never trained."""
        return int(self.loss_mask.sum())


Pack = list[int]
"""Positions of the examples that share one row, in order."""


class Batch(TypedDict, total=False):
    """Tensors of one forward pass. ``batch`` rows of ``seq`` slots each.

    Padding is by position: a slot is padding because nothing was put there, never because of its token id.
    """

    input_ids: Any
    """int64 (batch, seq)"""
    labels: Any
    """int64 (batch, seq): the token itself where it is trained, else -100; the first token of a document is -100."""
    position_ids: Any
    """int64 (batch, seq): restarts at 0 with each document of a packed row."""
    attention_mask: Any
    """int64 (batch, seq): 1 where a token is. Absent for packed rows, which are isolated by position_ids."""
    trained_slots: Any
    """int64 (trained,): slots of the flattened batch that have a label. Absent where a row is shared by processes."""
    trained_groups: Any
    """int64 (2, trained): source and answer of each of ``trained_slots``, as ``LossGroups`` numbers them. Absent where
    no losses are added up by them."""
    loss_weights: Any
    """float32 (batch, seq). Absent when every weight is 1."""
    documents: Any
    """``sft.data.documents.Documents``, where the model attends to each document alone."""
    num_tokens: int
    """Tokens in the batch, padding not counted. A plain number, so that counting never waits for a device."""
    num_trained: float
    """Sum of the weights of its trained tokens; their number when every weight is 1."""
    num_labels: int
    """Its trained tokens, whatever they weigh. A plain number, too; absent from parts of a batch."""
