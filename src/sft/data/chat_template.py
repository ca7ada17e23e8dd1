"""The chat template of a tokenizer: messages -> text. The one place where text is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.meta
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from sft.data.control import Turns

GENERATION_TAG = re.compile(r"\{%[-+]?\s*(?:end)?generation\s*[-+]?%\}")
THINKING_SWITCHES = ("enable_thinking", "thinking")
"""Variables by which templates with thoughts are told not to expect any."""


CANNOT_COPE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError)
"""What comes out of a template that was written for other conversations, or to do harm."""


class ChatTemplate:
    """What a tokenizer's ``apply_chat_template`` writes, with every refusal as ``jinja2.TemplateError``."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        given = tokenizer.chat_template
        self.source = source = "\n".join(given.values()) if isinstance(given, Mapping) else str(given or "")
        self.exists = given is not None
        self.has_markers = GENERATION_TAG.search(source) is not None
        self.writes_calls = "tool_calls" in source
        self.variables = _variables(source)
        self.thinking_switches = tuple(name for name in THINKING_SWITCHES if name in self.variables)

    def write(
        self,
        turns: Turns,
        tools: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        generation_prompt: bool = False,
    ) -> str:
        """Write a conversation, byte for byte as ``tokenizer.apply_chat_template(..., tokenize=False)`` does.

        Raises:
            jinja2.TemplateError: the template refuses the conversation or cannot cope with it.
        """
        try:
            written = self.tokenizer.apply_chat_template(
                list(turns),
                tools=list(tools) or None,
                tokenize=False,
                add_generation_prompt=generation_prompt,
                **(kwargs or {}),
            )
        except CANNOT_COPE as error:
            raise jinja2.TemplateError(str(error) or type(error).__name__) from error
        return str(written)

    def write_marked(
        self, turns: Turns, tools: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[str, list[tuple[int, int]]]:
        """Write a conversation, and say which characters the template's ``{% generation %}`` markers enclose."""
        texts, marked = render_jinja_template(
            conversations=[list(turns)],
            tools=list(tools) or None,
            chat_template=self.tokenizer.get_chat_template(None, list(tools) or None),
            return_assistant_tokens_mask=True,
            **{**self.tokenizer.special_tokens_map, **kwargs},
        )
        return str(texts[0]), [(int(start), int(end)) for start, end in marked[0]]


def _variables(source: str) -> frozenset[str]:
    """Names a template takes from outside; none for one that Jinja cannot parse, which is refused when it is used."""
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        return frozenset(jinja2.meta.find_undeclared_variables(environment.parse(GENERATION_TAG.sub("", source))))
    except jinja2.TemplateSyntaxError:
        return frozenset()
