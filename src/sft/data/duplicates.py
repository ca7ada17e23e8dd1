"""Rows that say the same as an earlier one, word for word."""

from __future__ import annotations

import hashlib
from typing import Any

from sft.data.conversations import ConversationSet
from sft.data.types import Conversation


def without_duplicates(conversations: ConversationSet) -> ConversationSet:
    """Keep the first of rows that are equal, wherever they come from, and count the others.

    Rows are equal whose conversations are: every turn with its role, tools, weights and what is trained of them. What
    a weight of the source repeats is repeated on purpose and stays.
    """
    first: dict[bytes, int] = {}
    kept: list[int] = []
    others: set[int] = set()
    for index, conversation in enumerate(conversations.conversations):
        identity = id(conversation)
        if first.setdefault(_digest(conversation), identity) == identity:
            kept.append(index)
        else:
            others.add(identity)
    left = conversations.select(kept)
    left.duplicates = len(others)
    left.num_rows = conversations.num_rows
    return left


def _digest(conversation: Conversation) -> bytes:
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
