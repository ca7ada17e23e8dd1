"""A prompt of axolotl's user-defined types, ``[INST] {instruction} {input} [/INST]``, as a chat template."""

from __future__ import annotations

import json

INSTRUCTION, INPUT, SYSTEM = "{instruction}", "{input}", "{system}"


class Unwritable(Exception):
    """A prompt that no template of ours writes. The text says why."""


def template_of(with_input: object, without_input: object, system: object) -> tuple[str, str]:
    """The template, and what stands between instruction and input.

    A row's input follows its instruction in one message, so the two prompts must begin and end alike.

    Raises:
        Unwritable: they do not, or a part is missing.
    """
    with_input, without_input, system = map(str, (with_input, without_input, system))
    before, between, after = _around(with_input)
    if without_input != before + INSTRUCTION + after:
        raise Unwritable(
            f"format {with_input!r} and no_input_format {without_input!r} differ around the instruction. Write "
            f"no_input_format: {before + INSTRUCTION + after!r}, or the rows as messages"
        )
    if system.count(SYSTEM) != 1:
        raise Unwritable(f"system_format {system!r} must hold {SYSTEM} once")
    head, tail = system.split(SYSTEM)
    return _template(before, after, head, tail), between


def _around(text: str) -> tuple[str, str, str]:
    """What stands before the instruction, between it and the input, and after the input."""
    if text.count(INSTRUCTION) != 1 or text.count(INPUT) != 1 or text.index(INSTRUCTION) > text.index(INPUT):
        raise Unwritable(f"format {text!r} must hold {INSTRUCTION} once and {INPUT} once after it")
    before, rest = text.split(INSTRUCTION)
    between, after = rest.split(INPUT)
    return before, between, after


def _template(before: str, after: str, head: str, tail: str) -> str:
    """Turns in that prompt, each answer ended by the tokenizer's end token."""
    user = f"{json.dumps(before)} + message.content + {json.dumps(after)}"
    system = f"{json.dumps(head)} + message.content + {json.dumps(tail)}"
    return (
        "{%- for message in messages %}"
        "{%- if message.role == 'user' %}{{- " + user + " }}"
        "{%- elif message.role == 'system' and loop.first %}{{- " + system + " }}"
        "{%- elif message.role == 'assistant' and not message.tool_calls %}{{- message.content + eos_token }}"
        "{%- else %}{{- raise_exception('there is no turn for ' + message.role) }}"
        "{%- endif %}{%- endfor %}"
    )
