"""Rows that say the same as an earlier one, word for word."""

from __future__ import annotations

import hashlib
from typing import Any

from sft.data.types import Conversation


def digest(conversation: Conversation) -> bytes:
    """128 bits over all that a conversation says."""
    text = repr(_said(conversation))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _said(conversation: Conversation) -> tuple[Any, ...]:
    tokens, rejected = conversation.tokens, conversation.rejected
    return (
        conversation.messages,
        conversation.tools,
        conversation.text,
        conversation.prompt,
        conversation.weight,
        conversation.template_kwargs,
        None if rejected is None else _said(rejected),
        None if tokens is None else (tokens.ids.tobytes(), tokens.trained is not None and tokens.trained.tobytes()),
    )
