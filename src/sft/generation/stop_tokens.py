"""Which tokens end an answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def own_stop_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens a model stops at by itself: its generation config's, else its config's, else the tokenizer's."""
    candidates = (
        getattr(getattr(model, "generation_config", None), "eos_token_id", None),
        getattr(getattr(model, "config", None), "eos_token_id", None),
        getattr(tokenizer, "eos_token_id", None),
    )
    for found in candidates:
        if found is not None and found != []:
            return as_token_ids(found)
    return ()


def as_token_ids(value: int | Iterable[int] | None) -> tuple[int, ...]:
    """``eos_token_id`` as configs write it (one id, several or none) as a tuple without repeats, order kept."""
    if value is None:
        return ()
    if isinstance(value, int):
        return (value,)
    return tuple(dict.fromkeys(int(token) for token in value))


def pad_token(tokenizer: Any, stop_token_ids: tuple[int, ...]) -> int:
    """A token to fill slots with that are never read: the tokenizer's own, else a stop token, else 0."""
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return stop_token_ids[0] if stop_token_ids else 0
