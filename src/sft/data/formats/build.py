"""The last step of every format with roles: checks that hold for any conversation, and the switches of the row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sft.data.formats.fields import describe, optional_text, parsed, read_switch, read_weight, refuse, shorten
from sft.data.formats.options import FormatOptions
from sft.data.formats.tool_calls import read_tools
from sft.data.types import Conversation, Message, Row

MEDIA = ("images", "image", "videos", "audios")


def build_conversation(row: Row, messages: Sequence[Message], options: FormatOptions) -> Conversation:
    """Check messages and put them together with what the row says beside them.

    An answer that is empty would train the model to say nothing, so such a row is refused, unless that turn is not
    trained. Two turns of one role in a row, a conversation that begins with an answer, and one that ends with a
    question are taken as they are: the template shows whether it can write them, and what follows the last answer
    is context that is not trained.
    """
    if not messages:
        refuse(row, "no messages")
    weight, is_trained, template_kwargs = read_row_switches(row, options)
    if not is_trained:
        messages = [replace(message, train=False) for message in messages]
    if options.drop_system:
        messages = [message for message in messages if message.role != "system"]
    _check_answers(row, messages)
    _check_media(row)
    messages = _with_system(row, messages, options)
    return Conversation(
        messages=tuple(messages),
        source=row.source,
        tools=read_tools(row, options.column("tools", "tools")),
        weight=weight,
        template_kwargs=template_kwargs,
    )


def build_text(row: Row, text: str, options: FormatOptions, prompt: str | None = None) -> Conversation:
    """Put a text without roles together; ``prompt`` is its head that is not trained."""
    weight, is_trained, _ = read_row_switches(row, options)
    return Conversation(messages=(), source=row.source, text=text, prompt=prompt, weight=weight if is_trained else 0.0)


def read_row_switches(row: Row, options: FormatOptions) -> tuple[float, bool, Mapping[str, Any]]:
    """Return the weight of a row, whether it is trained at all, and its variables for the template."""
    values = row.values
    column = options.column("weight", "weight")
    weight, train, variables = values.get(column), values.get("train"), values.get("chat_template_kwargs")
    if variables:
        variables = parsed(row, variables, "chat_template_kwargs")
        if not isinstance(variables, dict):
            refuse(
                row, f"'chat_template_kwargs' is {describe(variables)}, not an object", f"Found {shorten(variables)}"
            )
    return (
        1.0 if weight is None or weight == "" else read_weight(row, weight, column),
        train is None or train == "" or read_switch(row, train, "train"),
        variables or {},
    )


def _check_answers(row: Row, messages: Sequence[Message]) -> None:
    has_answer = False
    for number, message in enumerate(messages, 1):
        if message.role == "assistant":
            has_answer = True
            is_silent = not (message.content and not message.content.isspace()) and not message.tool_calls
            if is_silent and not message.reasoning and message.train is not False:
                refuse(row, "empty answer", f"Message {number} of {len(messages)} ({message.role}) has no text")
    if not has_answer:
        roles = ", ".join(message.role for message in messages[:6])
        refuse(row, "no answer", f"No message is from the assistant; roles are {roles}")


def _check_media(row: Row) -> None:
    for column in MEDIA:
        if row.values.get(column):
            refuse(row, f"{column!r} is not empty", "sft trains on text; leave such rows out, or empty the column")


def _with_system(row: Row, messages: Sequence[Message], options: FormatOptions) -> Sequence[Message]:
    """Put the system message of the row first, or the general one where the conversation has none."""
    column = options.column("system", "system")
    beside = optional_text(row, column)
    if beside is None and options.system_prompt is None:
        return messages
    first = next((message for message in messages if message.role == "system"), None)
    if first is None:
        return (Message(role="system", content=beside or options.system_prompt or ""), *messages)
    if beside is not None and beside != first.content:
        refuse(row, "two system messages", f"One in the column {column!r} and another among the messages")
    return messages
