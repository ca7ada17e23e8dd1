"""Preference rows: one prompt with a better and a worse answer, in the columns `chosen` and `rejected`.

Such a row is read twice, as the format of its prompt says, once with each answer. The answers are texts, messages, or
whole conversations that share all but the last message (and then nothing else in the row is read).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from sft.data.formats.alpaca import convert_alpaca
from sft.data.formats.build import build_conversation, build_text
from sft.data.formats.custom import convert_custom, question_columns
from sft.data.formats.detect import Detection, agree, describe_columns
from sft.data.formats.fields import describe, parsed, refuse, required_text, shorten
from sft.data.formats.messages import CHAT_COLUMNS
from sft.data.formats.options import FormatOptions
from sft.data.formats.prompt_completion import convert_prompt_completion
from sft.data.formats.tokens import refuse_pair
from sft.data.formats.turns import read_turns
from sft.data.types import Conversation, Message, Row

ANSWERS = ("chosen", "rejected")
Convert = Callable[[Row, FormatOptions], Conversation]


def detect_pairs(rows: Sequence[Row], columns: Mapping[str, str]) -> Detection:
    """Return the format of the prompt beside chosen and rejected.

    Raises:
        DataError: no row is a preference pair, or two rows are written differently.
    """
    return agree(rows, columns, _fit_pair, nothing=_no_pairs)


def _no_pairs(rows: Sequence[Row]) -> str:
    return (
        f"{rows[0].source}: stage dpo reads a better and a worse answer from the columns chosen and rejected, but the "
        f"rows have {describe_columns(rows)}. Name yours with columns: {{chosen: BETTER, rejected: WORSE}}, or set "
        "stage: sft"
    )


def _fit_pair(row: Row, columns: Mapping[str, str]) -> Detection | None:
    values = row.values
    if any(columns.get(name, name) not in values for name in ANSWERS):
        return None
    chosen = values[columns.get("chosen", "chosen")]
    if _is_whole(chosen, FormatOptions(columns=columns)):
        return Detection("messages", "chosen and rejected are whole conversations")
    chat = columns.get("messages") or next((name for name in CHAT_COLUMNS if name in values), None)
    if chat is not None:
        return Detection("messages", f"{chat} is the prompt of chosen and rejected")
    if "prompt" not in columns and "prompt" in values:
        kind = "messages" if isinstance(values["prompt"], list) else "text, without roles"
        return Detection("prompt_completion", f"prompt, chosen and rejected, the prompt as {kind}")
    if "prompt" not in columns and "instruction" in values:
        return Detection("alpaca", "instruction is the prompt of chosen and rejected")
    prompt = question_columns(values, {"response": "chosen", **columns}).prompt
    if prompt is not None:
        return Detection("custom", f"{prompt} is the prompt of chosen and rejected")
    return Detection("text", "chosen and rejected are texts that begin with their prompt")


def convert_pair(convert: Convert) -> Convert:
    """The converter of a pair: the conversation with the better answer, which holds the one with the worse."""

    def both(row: Row, options: FormatOptions) -> Conversation:
        better, worse = (
            convert(row, replace(options, columns={**options.columns, "response": options.column(name, name)}))
            for name in ANSWERS
        )
        if _prompt(better) != _prompt(worse):
            refuse(row, "chosen and rejected do not answer the same prompt", "Only their last message may differ")
        for name, side in zip(ANSWERS, (better, worse), strict=True):
            if side.messages and side.messages[-1].role != "assistant":
                refuse(
                    row, f"{name!r} does not end with an answer", f"Its last message is from {side.messages[-1].role}"
                )
        return replace(_only_answer_trained(better), rejected=_only_answer_trained(worse))

    return both


def _prompt(conversation: Conversation) -> Any:
    return conversation.prompt if conversation.text is not None else conversation.messages[:-1]


def _only_answer_trained(conversation: Conversation) -> Conversation:
    *before, answer = conversation.messages or (None,)
    if answer is None:
        return conversation
    return replace(conversation, messages=(*(replace(turn, train=False) for turn in before if turn), answer))


# One answer of a row, whose column is called `response` in the options


def _convert_chat(row: Row, options: FormatOptions) -> Conversation:
    """Turns of the prompt, then the answer; or a whole conversation where the answer's column holds one."""
    column = options.columns["response"]
    answer = row.values.get(column)
    if _is_whole(answer, options):
        return build_conversation(row, read_turns(row, answer, options, column), options)
    return build_conversation(
        row, [*_prompt_turns(row, options), *_answer_turns(row, answer, options, column)], options
    )


def _convert_prompt(row: Row, options: FormatOptions) -> Conversation:
    """As TRL writes it: two texts, which are joined without a template, or messages."""
    column = options.columns["response"]
    prompt = options.column("prompt", "prompt")
    if isinstance(row.values.get(prompt), list) or isinstance(row.values.get(column), list | dict):
        return _convert_chat(row, options)
    return convert_prompt_completion(row, options)


def _convert_text(row: Row, options: FormatOptions) -> Conversation:
    """A text that begins with its prompt: with what it shares with the other answer, but for a space at the end."""
    texts = [required_text(row, options.column(name, name)) for name in ANSWERS]
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False))
    shared = "".join(one for one, _ in alike)
    prompt = shared[:-1] if shared.endswith(" ") and len(shared) < min(map(len, texts)) else shared
    if not prompt:
        refuse(row, "chosen and rejected share no prompt", "Two texts without a prompt column must begin alike")
    return build_text(row, required_text(row, options.columns["response"]), options, prompt=prompt)


def _is_whole(turns: Any, options: FormatOptions) -> bool:
    """Whether an answer is a list of messages that begins before the answer."""
    first = turns[0] if isinstance(turns, list) and turns else None
    if not isinstance(first, dict):
        return False
    role = first.get(options.role_key) if options.role_key else first.get("role", first.get("from"))
    return isinstance(role, str) and options.meaning(role) in ("system", "user")


def _prompt_turns(row: Row, options: FormatOptions) -> list[Message]:
    named = options.columns.get("messages") or options.columns.get("prompt")
    column = named or next((name for name in (*CHAT_COLUMNS, "prompt") if name in row.values), None)
    if column is None or column not in row.values:
        refuse(row, "no prompt", f"Its columns are {', '.join(map(repr, row.values))}; name one with columns: messages")
    turns = row.values[column]
    if isinstance(turns, str) and not turns.lstrip().startswith("["):
        return [Message(role="user", content=turns)]
    return read_turns(row, parsed(row, turns, column), options, column)


def _answer_turns(row: Row, answer: Any, options: FormatOptions, column: str) -> list[Message]:
    if isinstance(answer, str):
        return [Message(role="assistant", content=answer)]
    if not isinstance(answer, dict | list):
        refuse(row, f"{column!r} is {describe(answer)}, neither text nor messages", f"Found {shorten(answer)}")
    return read_turns(row, answer if isinstance(answer, list) else [answer], options, column)


PAIR_FORMATS: dict[str, Convert] = {
    "alpaca": convert_pair(convert_alpaca),
    "sharegpt": convert_pair(_convert_chat),
    "messages": convert_pair(_convert_chat),
    "prompt_completion": convert_pair(_convert_prompt),
    "text": convert_pair(_convert_text),
    "custom": convert_pair(convert_custom),
    "tokens": refuse_pair,
}
"""By the format of the prompt."""
