"""Third hop: what happens to an example that is longer than ``max_length``.

A conversation is cut by whole exchanges (a user turn and what answers it) and rendered again, so the text that is left
is still exactly what the chat template writes and every trained answer keeps its end token. The system turn stays.
Plain text, and rows that are tokens, are cut by tokens. What cannot be cut honestly is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from sft.data.types import Conversation, Example, Message
from sft.errors import DataError, RowError

Overlong = Literal["drop", "cut_start", "cut_end", "error"]
Render = Callable[[Conversation], Sequence[Example]]


def fit_length(
    conversation: Conversation, example: Example, render: Render, *, max_length: int, overlong: str
) -> Example | str:
    """Return the example, a shorter one, or the reason (short, countable) why nothing of it can be used.

    Args:
        conversation: what ``example`` was rendered from.
        example: one of its examples; with ``example.turn`` set, only that answer of the conversation is trained.
        render: Conversation -> examples, as ``Renderer.render``.
        max_length: most tokens.
        overlong: drop | cut_start (oldest exchanges leave) | cut_end (newest leave) | error.

    Raises:
        DataError: ``overlong`` is ``error`` and the example is too long.
    """
    if len(example) <= max_length:
        return example
    if overlong == "error":
        raise DataError(
            f"{example.source}: {len(example)} tokens, but max_length is {max_length} and overlong is 'error'. "
            f"Raise max_length to {len(example)}, or choose overlong: drop, cut_start or cut_end."
        )
    if overlong == "drop":
        return f"longer than max_length {max_length}"
    if conversation.text is not None or conversation.tokens is not None:
        cut = cut_tokens(example, max_length, from_start=overlong == "cut_start")
    else:
        cut = _cut_exchanges(conversation, example, render, max_length, from_start=overlong == "cut_start")
    return cut if cut is not None else f"no whole trained turn fits in max_length {max_length}"


def cut_tokens(example: Example, max_length: int, *, from_start: bool) -> Example | None:
    """Keep the last (``from_start``) or first ``max_length`` tokens; None when none of them is trained.

    The first token that is left is not trained: nothing before it is left to predict it from.
    """
    kept = slice(len(example) - max_length, None) if from_start else slice(0, max_length)
    loss_mask = example.loss_mask[kept].copy()
    loss_mask[0] = 0
    if not loss_mask.any():
        return None
    weights = None if example.weights is None else example.weights[kept]
    return replace(example, input_ids=example.input_ids[kept], loss_mask=loss_mask, weights=weights)


def _cut_exchanges(
    conversation: Conversation, example: Example, render: Render, max_length: int, *, from_start: bool
) -> Example | None:
    messages = conversation.messages
    if example.turn is not None:
        messages = _only_trained(messages[: example.turn + 1], example.turn)
        if not from_start:
            return None  # the one trained answer is at the end
    head = 1 if messages[0].role == "system" else 0
    starts = [index for index in range(head, len(messages)) if messages[index].role == "user"]
    for start in starts[1:] if from_start else reversed(starts[1:]):
        left = messages[:head] + messages[start:] if from_start else messages[:start]
        try:
            shorter = render(replace(conversation, messages=left))
        except RowError:  # of the trained turns none is left, or the template does not write what is
            continue
        if len(shorter) == 1 and len(shorter[0]) <= max_length:
            return replace(shorter[0], turn=example.turn)
    return None


def _only_trained(messages: tuple[Message, ...], turn: int) -> tuple[Message, ...]:
    return tuple(replace(message, train=index == turn) for index, message in enumerate(messages))
