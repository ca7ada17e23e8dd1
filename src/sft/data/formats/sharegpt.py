"""ShareGPT: `conversations` of `from`/`value` or `role`/`content` turns, of `{human, assistant}` pairs, or of texts."""

from __future__ import annotations

from typing import Any

from sft.data.formats.build import build_conversation
from sft.data.formats.fields import describe, parsed, refuse, shown_name
from sft.data.formats.messages import chat_column
from sft.data.formats.options import FormatOptions
from sft.data.formats.turns import read_turns
from sft.data.types import Conversation, Message, Row


def convert_sharegpt(row: Row, options: FormatOptions) -> Conversation:
    """Every turn becomes a message, not the first exchange only."""
    column = chat_column(row, options, "conversations")
    turns = parsed(row, row.values[column], column)
    first = turns[0] if isinstance(turns, list) and turns else None
    if isinstance(first, dict) and "human" in first:
        messages = _read_pairs(row, turns)
    elif isinstance(first, str):
        messages = _read_texts(row, turns)
    else:
        messages = read_turns(row, turns, options, column)
    return build_conversation(row, messages, options)


def _read_pairs(row: Row, pairs: list[Any]) -> list[Message]:
    """Firefly writes an exchange as one object."""
    messages = []
    for number, pair in enumerate(pairs, 1):
        for key, role in (("human", "user"), ("assistant", "assistant")):
            text = pair.get(key) if isinstance(pair, dict) else None
            if isinstance(pair, dict) and key not in pair:
                keys = ", ".join(map(shown_name, pair)) or "none"
                refuse(row, f"a pair has no {key!r}", f"Pair {number} of {len(pairs)}; its keys are {keys}")
            if not isinstance(text, str):
                refuse(row, f"{key!r} of a pair is {describe(text)}, not text", f"Pair {number} of {len(pairs)}")
            messages.append(Message(role="user" if role == "user" else "assistant", content=text))
    return messages


def _read_texts(row: Row, texts: list[Any]) -> list[Message]:
    """LIMA writes texts alone; the user begins."""
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            refuse(row, f"a turn is {describe(text)}, not text", f"Turn {number}; the turns before it are texts")
    return [Message(role="assistant" if index % 2 else "user", content=text) for index, text in enumerate(texts)]
