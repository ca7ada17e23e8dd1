"""Alpaca: `instruction`, `input`, `output`, and beside them `system` and `history` ([[question, answer], ...])."""

from __future__ import annotations

from typing import Any

from sft.data.formats.build import build_conversation
from sft.data.formats.fields import optional_text, parsed, refuse, required_text, shorten
from sft.data.formats.options import FormatOptions
from sft.data.types import Conversation, Message, Row


def convert_alpaca(row: Row, options: FormatOptions) -> Conversation:
    """The user says instruction and input with ``input_separator`` between them; history comes before, trained too."""
    return convert_question(
        row,
        options,
        prompt=options.column("prompt", "instruction"),
        context=options.column("input", "input"),
        response=options.column("response", "output"),
    )


def convert_question(
    row: Row, options: FormatOptions, *, prompt: str, context: str | None, response: str
) -> Conversation:
    """Make a conversation of one question and one answer out of the columns with these names."""
    question = required_text(row, prompt)
    beside = optional_text(row, context) if context is not None else None
    if beside is not None:
        question = f"{question}{options.input_separator}{beside}" if question else beside
    if not question or question.isspace():
        refuse(row, "empty prompt", f"The column {prompt!r} holds no text")
    answer = required_text(row, response)
    if answer:
        answer = options.response_prefix + answer
    messages = [Message(role="user", content=question), Message(role="assistant", content=answer)]
    column = options.column("history", "history")
    history = row.values.get(column)
    if history:
        messages = _read_history(row, parsed(row, history, column), column) + messages
    return build_conversation(row, messages, options)


def _read_history(row: Row, history: Any, column: str) -> list[Message]:
    messages = []
    for pair in history if isinstance(history, list) else [history]:
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        if not is_pair:
            refuse(row, f"{column!r} is not a list of [question, answer]", f"Found {shorten(pair)}")
        messages += [Message(role="user", content=pair[0]), Message(role="assistant", content=pair[1])]
    return messages
