"""Question and answer under any names: those that `columns` gives, else the usual ones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from sft.data.formats.alpaca import convert_question
from sft.data.formats.fields import refuse
from sft.data.formats.options import FormatOptions
from sft.data.types import Conversation, Row

PROMPTS = ("instruction", "question", "query", "prompt", "problem", "input", "human", "user")
RESPONSES = ("output", "answer", "response", "completion", "target", "solution", "reply", "assistant", "gpt", "bot")
CONTEXTS = ("input", "context", "passage", "document")
"""Usual names in order of preference; capitals do not matter."""


class QuestionColumns(NamedTuple):
    """Names of the columns that make a question and its answer; None where there is none."""

    prompt: str | None
    context: str | None
    response: str | None


def convert_custom(row: Row, options: FormatOptions) -> Conversation:
    """The user says prompt and context, as with alpaca; the answer is the response."""
    prompt, context, response = question_columns(row.values, options.columns)
    if prompt is None or response is None:
        wanted, names = ("question", PROMPTS) if prompt is None else ("answer", RESPONSES)
        key = "prompt" if prompt is None else "response"
        refuse(
            row,
            f"no column for the {wanted}",
            f"Its columns are {', '.join(map(repr, row.values)) or 'none'}; looked for were {', '.join(names)}. "
            f"Name it with columns: {{{key}: ...}}",
        )
    if options.only_columns:
        context = options.columns.get("input")
    return convert_question(row, options, prompt=prompt, context=context, response=response)


def question_columns(values: Mapping[str, object], columns: Mapping[str, str]) -> QuestionColumns:
    """Choose columns by name: those the user gives, whether they are there or not, then the usual ones."""
    return _choose(tuple(values), columns.get("prompt"), columns.get("input"), columns.get("response"))


@lru_cache(maxsize=256)
def _choose(names: tuple[str, ...], prompt: str | None, context: str | None, response: str | None) -> QuestionColumns:
    known = {name.lower(): name for name in reversed(names)}

    def first(usual: tuple[str, ...], *taken: str | None) -> str | None:
        found = (known[name] for name in usual if name in known)
        return next((name for name in found if name not in taken), None)

    response = response or first(RESPONSES, prompt, context)
    prompt = prompt or first(PROMPTS, response, context)
    return QuestionColumns(prompt, context or first(CONTEXTS, prompt, response), response)
