"""Turns of a chat, however a data set spells them, as messages.

Read are `role`/`content` and `from`/`value`, content as text or as a list of parts, thoughts (`reasoning_content`,
`thinking`, `reasoning`, or a part of that type), tool calls, and the switches `train`, `loss`, `weight`, `loss_weight`.
`<think>` inside of a text stays there: it is the template that knows what it means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft.data.formats.fields import LONGEST_NAME, describe, read_switch, read_weight, refuse, shorten, shown_name
from sft.data.formats.options import FUNCTION_CALL, ROLE_NAMES, FormatOptions
from sft.data.formats.tool_calls import read_calls
from sft.data.types import ROLES, Message, Role, Row

REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
SWITCHES = ("train", "loss")
WEIGHTS = ("weight", "loss_weight")
_ROLES: Mapping[str, Role] = {role: role for role in ROLES}


def read_turns(row: Row, turns: Any, options: FormatOptions, column: str) -> list[Message]:
    """Return the messages of a list of turns; ``column`` is where the list was found."""
    if not isinstance(turns, list):
        refuse(row, f"{column!r} is {describe(turns)}, not a list", f"Found {shorten(turns)}")
    return [_read_turn(row, turn, options, f"message {number}") for number, turn in enumerate(turns, 1)]


def _read_turn(row: Row, turn: Any, options: FormatOptions, where: str) -> Message:
    if not isinstance(turn, dict):
        refuse(row, f"a message is {describe(turn)}, not an object", f"{where.capitalize()}: {shorten(turn)}")
    name = turn.get("role", turn.get("from")) if options.role_key is None else turn.get(options.role_key)
    if not isinstance(name, str):
        keys = ", ".join(map(shown_name, turn)) or "none"
        found = f"its keys are {keys}" if name is None else f"it is {shorten(name)}"
        refuse(
            row, "a message has no role", f"{where.capitalize()} needs {options.role_key or 'role or from'}; {found}"
        )
    meaning = options.meaning(name)
    if meaning is None:
        known = ", ".join([*ROLE_NAMES, *options.role_names])
        spelt = name if len(name) <= LONGEST_NAME else "ROLE"
        refuse(
            row,
            f"unknown role {shown_name(name)}",
            f"{where.capitalize()}. Known are {known}. Say what it means with role_names: {{{spelt}: assistant}}",
        )
    if options.content_key is not None:
        content = turn.get(options.content_key)
    else:
        content = turn["content"] if "content" in turn else turn.get("value")
    if meaning == FUNCTION_CALL:
        return Message(role="assistant", content="", tool_calls=read_calls(row, content, where))
    if len(turn) == 2 and isinstance(content, str):
        return Message(role=_ROLES[meaning], content=content)
    return _read_full(row, turn, content, _ROLES[meaning], where)


def _read_full(row: Row, turn: Mapping[str, Any], content: Any, role: Role, where: str) -> Message:
    calls = read_calls(row, turn["tool_calls"], where) if turn.get("tool_calls") else ()
    reasoning = _read_reasoning(row, turn, where) if role == "assistant" else None
    if isinstance(content, list):
        content, thoughts, called = _read_parts(row, content, where)
        reasoning = thoughts if reasoning is None else reasoning
        calls += called
    elif content is None and calls:
        content = ""
    if not isinstance(content, str):
        has_key = "content" in turn or "value" in turn
        reason = f"content is {describe(content)}, not text" if has_key else "a message has no content"
        refuse(row, reason, f"{where.capitalize()} ({role})")
    train, weight = _read_training(row, turn)
    return Message(
        role=role,
        content=content,
        reasoning=reasoning,
        tool_calls=calls,
        name=_text(row, turn, "name"),
        tool_call_id=_text(row, turn, "tool_call_id"),
        train=train,
        weight=weight,
    )


def _read_reasoning(row: Row, turn: Mapping[str, Any], where: str) -> str | None:
    for key in REASONING_KEYS:
        text = turn.get(key)
        if isinstance(text, str) and text:
            return text
        if text not in (None, ""):
            refuse(row, f"{key!r} is {describe(text)}, not text", f"{where.capitalize()}: {shorten(text)}")
    return None


def _read_training(row: Row, turn: Mapping[str, Any]) -> tuple[bool | None, float]:
    """Return the turn's own wish and weight. A weight of 0 is the wish not to be trained."""
    wishes = [read_switch(row, turn[key], key) for key in SWITCHES if turn.get(key) is not None]
    weights = [read_weight(row, turn[key], key) for key in WEIGHTS if turn.get(key) is not None]
    weight = weights[0] if weights else 1.0
    if weight == 0 or False in wishes:
        return False, weight
    return True if wishes else None, weight


def _text(row: Row, turn: Mapping[str, Any], key: str) -> str | None:
    text = turn.get(key)
    if text is None or isinstance(text, str):
        return text
    refuse(row, f"{key!r} of a message is {describe(text)}, not text", f"Found {shorten(text)}")


_THOUGHT_PARTS = ("reasoning", "thinking")
_PART_ORDER = {"text": 1, "tool_call": 2, **dict.fromkeys(_THOUGHT_PARTS, 0)}
"""Templates write thoughts, then text, then calls; parts in another order would be moved in silence."""


def _read_parts(row: Row, parts: list[Any], where: str) -> tuple[str, str | None, tuple[Mapping[str, Any], ...]]:
    """Return text, thoughts and tool calls of a content that is a list of parts."""
    texts: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls: tuple[Mapping[str, Any], ...] = ()
    last = 0
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        order = _PART_ORDER.get(kind) if isinstance(kind, str) else None
        if order is None:
            known = ", ".join(_PART_ORDER)
            shown = shown_name(kind) if isinstance(kind, str) else shorten(kind)
            refuse(row, f"content part of type {shown}", f"{where.capitalize()}. Known types are {known}")
        if order < last:
            refuse(row, f"content part of type {kind!r} after one that templates write later", where.capitalize())
        last = order
        value = next((part[key] for key in ("value", "text", kind) if part.get(key) is not None), None)
        if kind == "tool_call":
            calls += read_calls(row, value, where)
        elif isinstance(value, str):
            texts["reasoning" if kind in _THOUGHT_PARTS else "text"].append(value)
        else:
            refuse(row, f"content part is {describe(value)}, not text", where.capitalize())
    return "".join(texts["text"]), "".join(texts["reasoning"]) or None, calls
