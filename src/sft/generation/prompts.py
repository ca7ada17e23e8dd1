"""Prompts as token ids, answers as text: the same in every engine, so that engines can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sft.errors import DataError
from sft.generation.engine import Prompt


def encode_prompt(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of a prompt. Text is already rendered: nothing is added, no beginning-of-sequence token either."""
    if isinstance(prompt, str):
        return [int(token) for token in tokenizer.encode(prompt, add_special_tokens=False)]
    return [int(token) for token in prompt]


def answer_room(context: int | None, ids: Sequence[int], max_new_tokens: int, number: int) -> int:
    """Tokens an answer to a prompt may have: ``max_new_tokens``, or what is left of the context.

    Args:
        context: most tokens of prompt and answer together; None: no bound is known.
        ids: the prompt.
        max_new_tokens: what is asked for.
        number: of the prompt, from 1, for the message.
    """
    if not ids:
        raise DataError(f"Prompt {number} is empty: a model needs at least one token to go on from.")
    if context is None:
        return max_new_tokens
    if len(ids) >= context:
        raise DataError(
            f"Prompt {number} has {len(ids)} tokens, but the model's context holds {context}, answer included. "
            "Shorten the prompt, or use a model with a longer context."
        )
    return min(max_new_tokens, context - len(ids))


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of generated tokens, special tokens left out, spaces as they are."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
