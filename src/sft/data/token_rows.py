"""Third hop of rows that are token ids already: checked against the tokenizer, and nothing else."""

from __future__ import annotations

import numpy as np

from sft.data.types import Conversation, Example, TokenRow
from sft.errors import RowError


def example_of_tokens(
    conversation: Conversation, tokens: TokenRow, *, vocabulary: int, trains_everything: bool
) -> Example:
    """The example that a row of ids is.

    Args:
        vocabulary: ids that the tokenizer has, from 0.
        trains_everything: ``train_on`` is everything; what a row without labels is to say.

    Raises:
        RowError: an id is not the tokenizer's, or nothing is trained.
    """
    source, ids = conversation.source, tokens.ids
    largest = int(ids.max())
    if largest >= vocabulary:
        reason = "a token id that the tokenizer does not have"
        raise RowError(source, reason, f"Found {largest}; it has {vocabulary}, from 0. Was another tokenizer used?")
    if tokens.trained is None and not trains_everything:
        advice = "Add labels (-100 where nothing is trained), or set train_on: everything"
        raise RowError(source, "token ids without labels, so that nothing says which are trained", advice)
    mask = np.ones(len(ids), np.uint8) if tokens.trained is None else tokens.trained.copy()
    mask[0] = 0  # nothing precedes it
    if not mask.any() or not conversation.weight:
        raise RowError(source, "no trained tokens: every label is -100, or the weight of the row is 0")
    weight = conversation.weight
    return Example(
        input_ids=ids,
        loss_mask=mask,
        text="",
        source=source,
        weights=None if weight == 1 else np.full(len(ids), weight, np.float32),
    )
