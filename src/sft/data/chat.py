"""A conversation in the shape that chat templates take, and its trained turns in the text that they write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from sft.data.answers import Located, Mismatch, locate_answer, locate_between, snippet, thoughts_of
from sft.data.chat_template import ChatTemplate
from sft.data.control import UNSHIELDED, ControlTokens, Shield, Uncovered
from sft.data.types import Conversation
from sft.errors import RowError, TemplateError

# Stands for the content of a turn while the template is asked what it writes around it.
STAND_IN = "\ue000"


@dataclass(frozen=True, kw_only=True)
class Chat:
    """One conversation before one template. Special-token text of the row is covered (see ``Shield``)."""

    conversation: Conversation
    template: ChatTemplate
    turns: list[dict[str, Any]]
    tools: list[Any]
    kwargs: dict[str, Any]
    """Template variables that were asked for."""
    shield: Shield

    @classmethod
    def of(
        cls,
        conversation: Conversation,
        template: ChatTemplate,
        kwargs: Mapping[str, Any],
        control: ControlTokens | None,
    ) -> Chat:
        """Prepare a conversation; ``control`` None lets special-token text of the row act as control tokens.

        Raises:
            RowError: the template has no place for what the row has.
            TemplateError: there is no template.
        """
        _refuse_unwritable(conversation, template)
        turns = [message.for_template() for message in conversation.messages]
        tools = list(conversation.tools)
        shield = UNSHIELDED
        if control is not None:
            shield = Shield.over(control, turns, tools)
            turns, tools = shield.cover(control, turns), shield.cover(control, tools)
        return cls(
            conversation=conversation,
            template=template,
            turns=turns,
            tools=tools,
            kwargs={**kwargs, **conversation.template_kwargs},
            shield=shield,
        )

    @property
    def last(self) -> int:
        """Index of the last turn."""
        return len(self.turns) - 1

    def is_answer(self, turn: int) -> bool:
        """Whether a turn is the assistant's."""
        return bool(self.turns[turn]["role"] == "assistant")

    def write(self, num_turns: int, kwargs: Mapping[str, Any], *, generation_prompt: bool = False) -> str:
        """What the template writes of the first turns."""
        return self.template.write(self.turns[:num_turns], self.tools, kwargs, generation_prompt=generation_prompt)

    def uncover(self, text: str, num_turns: int, kwargs: Mapping[str, Any], *, eos_at: int | None = None) -> Uncovered:
        """Put the row's special-token texts back, and check that the template writes this very text.

        ``eos_at`` is where an end-of-sequence token was written that is not the template's.
        """
        uncovered = self.shield.uncover(text)
        if self.shield:
            messages = [message.for_template() for message in self.conversation.messages[:num_turns]]
            direct = self.template.write(messages, self.conversation.tools, kwargs)
            compared = slice(None, None if eos_at is None else uncovered.position(eos_at))
            if direct[compared] != uncovered.text[compared]:
                raise RowError(
                    self.conversation.source,
                    "the chat template acts on special-token text in a message",
                    "Set allow_special_tokens to let it",
                )
        return uncovered

    # Trained turns

    def locate(self, turn: int, control: ControlTokens, stops: frozenset[str]) -> Located:
        """Find one turn in the conversation up to it, as it will be generated.

        Raises:
            RowError: the template does not write it as the data has it.
        """
        if not self.is_answer(turn):
            return self._locate_between(turn, control)
        if turn == 0:
            raise RowError(
                self.conversation.source,
                "begins with an answer, so that nothing prompts it",
                "Put a user message before it, or mark it train: false",
            )
        mismatches = []
        for kwargs in self._candidates(turn):
            text = self.write(turn + 1, kwargs)
            prompt = self.write(turn, kwargs, generation_prompt=True)
            found = locate_answer(turn, self.turns[turn], text, prompt, kwargs, control, stops)
            if isinstance(found, Located):
                return found
            mismatches.append(found)
        raise self._row_error(turn, mismatches[0])

    def _candidates(self, turn: int) -> Iterator[dict[str, Any]]:
        """Template variables to try: an answer without thoughts asks for a prompt that says so."""
        switches = [name for name in self.template.thinking_switches if name not in self.kwargs]
        has_thoughts = bool(thoughts_of(self.turns[turn]))
        if not has_thoughts:
            yield from ({**self.kwargs, name: False} for name in switches)
        yield self.kwargs
        if has_thoughts:
            yield from ({**self.kwargs, name: True} for name in switches)

    def _locate_between(self, turn: int, control: ControlTokens) -> Located:
        """Find a turn of another role, by what the template writes around any content of it."""
        before, this = self.turns[:turn], self.turns[turn]
        stand_in = self.template.write([*before, {**this, "content": STAND_IN}], self.tools, self.kwargs)
        head, mark, tail = stand_in.partition(STAND_IN)
        if not mark or STAND_IN in tail:
            raise self._row_error(turn, Mismatch("the template does not write a trained turn once", snippet(stand_in)))
        text = self.write(turn + 1, self.kwargs)
        found = locate_between(turn, this, text, head, tail, self.kwargs, control)
        if isinstance(found, Mismatch):
            raise self._row_error(turn, found)
        return found

    def _row_error(self, turn: int, mismatch: Mismatch) -> RowError:
        detail = self.shield.uncover(mismatch.detail).text
        return RowError(self.conversation.source, mismatch.reason, f"Message {turn + 1}: {detail}")


def _refuse_unwritable(conversation: Conversation, template: ChatTemplate) -> None:
    """Raise where there is no template, or it has no place for what the row has."""
    if not template.exists:
        raise TemplateError(
            f"{conversation.source}: the tokenizer has no chat template to render messages with. "
            "Choose one with chat_template, such as chatml or default."
        )
    if conversation.tools and "tools" not in template.variables:
        raise RowError(
            conversation.source,
            "the chat template has no place for tools",
            "Choose a chat_template with tools, such as qwen, or leave the tools out",
        )
    if not template.writes_calls and any(message.tool_calls for message in conversation.messages):
        raise RowError(
            conversation.source,
            "the template does not write tool calls",
            "Choose a chat_template that does, such as qwen, or leave such rows out",
        )


def probe_turn_end(template: ChatTemplate, candidates: Sequence[str]) -> str | None:
    """The one of some tokens that a template writes after any answer; None if it is none of them."""
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": STAND_IN}]
    try:
        tail = template.write(turns).partition(STAND_IN)[2] if template.exists else ""
    except jinja2.TemplateError:
        return None
    found = ControlTokens(candidates).after(tail, 0)
    return found[0] if found else None
