"""Prompt and completion, both as text or as lists of messages; the prompt is never trained.

Two texts are joined as they are, without roles or a template between them.
"""

from __future__ import annotations

from dataclasses import replace

from sft.data.formats.build import build_conversation, build_text
from sft.data.formats.fields import refuse, required_text
from sft.data.formats.options import FormatOptions
from sft.data.formats.turns import read_turns
from sft.data.types import Conversation, Message, Row


def convert_prompt_completion(row: Row, options: FormatOptions) -> Conversation:
    """Texts become a text with an untrained head; messages a conversation whose prompt turns are not trained."""
    prompt_column = options.column("prompt", "prompt")
    completion_column = options.column("response", "completion")
    turns = row.values.get(prompt_column)
    if isinstance(turns, list):
        before = read_turns(row, turns, options, prompt_column)
        after = _read_answers(row, completion_column, options)
        return build_conversation(row, [*(replace(message, train=False) for message in before), *after], options)
    prompt = required_text(row, prompt_column)
    completion = required_text(row, completion_column)
    if not completion or completion.isspace():
        refuse(row, "empty answer", f"The column {completion_column!r} holds no text")
    return build_text(row, prompt + completion, options, prompt=prompt)


def _read_answers(row: Row, column: str, options: FormatOptions) -> list[Message]:
    answers = row.values.get(column)
    if isinstance(answers, list):
        return read_turns(row, answers, options, column)
    return [Message(role="assistant", content=required_text(row, column))]
