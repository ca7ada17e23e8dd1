"""Where a trained turn begins and ends in rendered text, found by construction and checked against the data.

An answer begins where the generation prompt ends, and ends with the control token that the template writes after it.
Between the two stands what the data has, and what the model must write around it (thought tags, call syntax), and
nothing else. Templates may strip white space at the borders of thoughts and content; every other change is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sft.data.control import ControlTokens

SNIPPET = 60
_WORDS = re.compile(r"(<\|?/?[\w|]{1,24}>|\[/?[A-Z_]{1,16}\])|\w+")
EMPTY_THOUGHTS = re.compile(r"(?:\s*<think>)?\s*</think>")
"""A block of thoughts that holds none, or the rest of it where the prompt has begun it."""


@dataclass(frozen=True, slots=True)
class Located:
    """A turn in the text of the conversation up to it: ``text[start:end]`` is trained."""

    turn: int
    text: str
    """The conversation up to and including this turn, as the template writes it."""
    start: int
    """Where the prompt ends."""
    body_end: int
    """Where what the data has ends."""
    end: int | None
    """Just after the token that ends the turn; None where the template writes none."""
    kwargs: Mapping[str, Any]
    """Template variables that ``text`` was written with."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a turn could not be located: what the template writes, and what was looked for."""

    reason: str
    detail: str


def locate_answer(
    turn: int,
    message: Mapping[str, Any],
    text: str,
    prompt: str,
    kwargs: Mapping[str, Any],
    control: ControlTokens,
    stops: frozenset[str],
) -> Located | Mismatch:
    """Find the answer ``message`` at the end of ``text``, after ``prompt``.

    Args:
        turn: index of the message.
        message: the turn as the template was given it.
        text: the conversation up to and including it.
        prompt: the conversation before it, with the generation prompt.
        kwargs: the template variables both were written with.
        control: the tokenizer's control tokens.
        stops: those of them that end a turn.
    """
    if not text.startswith(prompt):
        return _wrong_head(text, prompt)
    written = text[len(prompt) :]
    if message.get("tool_calls"):
        found = _end_of_calls(written, message, control)
    elif thoughts_of(message):
        found = _end_of_thoughts(written, message, control)
    else:
        found = _end_of_content(written, message, control)
    if isinstance(found, Mismatch):
        return found
    body_end = len(prompt) + found
    return Located(turn, text, len(prompt), body_end, _end_of_turn(text, body_end, control, stops), kwargs)


def locate_between(
    turn: int,
    message: Mapping[str, Any],
    text: str,
    head: str,
    tail: str,
    kwargs: Mapping[str, Any],
    control: ControlTokens,
) -> Located | Mismatch:
    """Find a turn that no generation prompt precedes: ``head`` and ``tail`` stand around any content of it.

    Where no control token follows, the turn ends with its content.
    """
    body = text[len(head) : len(text) - len(tail)]
    content = str(message["content"])
    if not (text.startswith(head) and text.endswith(tail) and body.strip() == content.strip()):
        return _changed(body, content)
    body_end = len(head) + len(body)
    stop = control.after(text, body_end)
    return Located(turn, text, len(head), body_end, stop[1] if stop else body_end, kwargs)


def thoughts_of(message: Mapping[str, Any]) -> str:
    """The thoughts of an answer, kept apart or inside of its content, without white space around them."""
    return _thoughts_and_content(message)[0]


def snippet(text: str, *, end: bool = False) -> str:
    """A short quoted piece of a text, its first or its last characters, for messages.

    Letters and digits are shown as x, except in what may be control tokens: rows may be private. What is wrong with a
    template shows in the marks and spaces; ``sft inspect`` shows the row itself.
    """
    if len(text) > SNIPPET:
        text = "..." + text[-SNIPPET:] if end else text[:SNIPPET] + "..."
    return repr(_WORDS.sub(lambda found: found.group(1) or "x" * len(found.group()), text))


def differing(one: str, other: str) -> tuple[str, str]:
    """Snippets of two texts from a little before the place where they part."""
    same, longest = 0, min(len(one), len(other))
    while same < longest:
        half = (same + longest + 1) // 2
        if one[same:half] == other[same:half]:
            same = half
        else:
            longest = half - 1
    start = max(0, same - SNIPPET // 3)
    return snippet(one[start:]), snippet(other[start:])


def _thoughts_and_content(message: Mapping[str, Any]) -> tuple[str, str]:
    """Thoughts kept apart, or inside of the content before ``</think>``; without thoughts the content is left whole,
    save for empty think tags before it."""
    content = str(message["content"]).strip()
    apart = str(message.get("reasoning_content") or "").strip()
    before, tag, after = content.partition("</think>")
    if apart or not tag:
        return apart, content
    thoughts = before.rpartition("<think>")[2].strip()
    return (thoughts, after.strip()) if thoughts or before.strip() == "<think>" else ("", content)


def _wrong_head(text: str, prompt: str) -> Mismatch:
    asked, written = differing(prompt, text)
    return Mismatch(
        "the generation prompt is not the head of the answer",
        f"the template prompts with {asked}, but writes {written}",
    )


def _end_of_content(written: str, message: Mapping[str, Any], control: ControlTokens) -> int | Mismatch:
    """The content comes first, but for white space, for a header that ends in a control token, or for an empty block
    of thoughts, which the model must then write.

    Empty thought tags in the data are markup that the template may move into the prompt.
    """
    content = str(message["content"])
    _, answer = _thoughts_and_content(message)
    lead = len(written) - len(written.lstrip())
    for body in (content.lstrip(), content.strip(), answer):
        if written.startswith(body, lead) and control.only_tail(written, lead + len(body)):
            return lead + len(body)
    place = written.find(answer)
    opening = written[: max(place, 0)].rstrip()
    is_markup = opening.endswith(control.texts) or EMPTY_THOUGHTS.fullmatch(opening)
    if is_markup and control.only_tail(written, place + len(answer)):
        return place + len(answer)
    return _changed(written, content)


def _end_of_thoughts(written: str, message: Mapping[str, Any], control: ControlTokens) -> int | Mismatch:
    thoughts, content = _thoughts_and_content(message)
    end = control.tail_start(written)
    if not written.endswith(content, 0, end):
        return _changed(written, content)
    before = written[: end - len(content)]
    if thoughts not in before:
        return Mismatch("the template drops thoughts", f"it writes {snippet(written)} for thoughts {snippet(thoughts)}")
    if before.count("</think>") > 1:
        advice = "keep them apart from the content, as reasoning_content"
        return Mismatch("the template does not read thoughts in a content", f"it writes {snippet(written)}; {advice}")
    return end


def _end_of_calls(written: str, message: Mapping[str, Any], control: ControlTokens) -> int | Mismatch:
    """The calls come last; their syntax is the template's, so that names and argument names are looked for in order."""
    end = control.tail_start(written)
    place = 0
    for part in _parts_of_calls(message):
        found = written.find(part, place, end)
        if found < 0:
            return Mismatch(
                "the template does not write tool calls", f"it writes {snippet(written)} without {snippet(part)}"
            )
        place = found + len(part)
    return end


def _parts_of_calls(message: Mapping[str, Any]) -> list[str]:
    parts = [part for part in _thoughts_and_content(message) if part]
    for call in message["tool_calls"]:
        function = call.get("function") or call
        parts.append(str(function["name"]))
        arguments = function.get("arguments")
        parts += [str(name) for name in arguments] if isinstance(arguments, Mapping) else []
    return parts


def _end_of_turn(text: str, body_end: int, control: ControlTokens, stops: frozenset[str]) -> int | None:
    """The first token after the body that is known to end turns, else the first control token."""
    first = found = control.after(text, body_end)
    while found is not None and found[0] not in stops:
        found = control.after(text, found[1])
    end = found or first
    return end[1] if end else None


def _changed(written: str, content: str) -> Mismatch:
    return Mismatch("the template changes an answer", f"it writes {snippet(written)} for {snippet(content)}")
