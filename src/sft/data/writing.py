"""Chat -> Written: the texts of a conversation's examples, and what of each is trained; no token ids yet.

One text holds every trained answer where each stands in it as it will be generated. Where a template rewrites what came
before, each answer gets a text of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from sft.data.answers import Located, differing, snippet
from sft.data.chat import Chat
from sft.data.control import ControlTokens
from sft.data.example import Stretch
from sft.data.types import Conversation
from sft.errors import RowError, TemplateError


@dataclass(frozen=True, slots=True)
class Written:
    """The text of one example to be, and what of it is trained."""

    text: str
    stretches: tuple[Stretch, ...]
    kwargs: Mapping[str, Any]
    """Template variables it was written with."""
    turn: int | None = None
    """Set where the conversation is split: the one message trained here."""
    is_answered: bool = True
    """Whether an answer that the model will be asked for was written with ``kwargs``."""

    @property
    def answer_kwargs(self) -> str | None:
        """The template variables of its answers as JSON text; None where it has no answer."""
        return as_text(self.kwargs) if self.is_answered else None


class Writer:
    """Writes chats with their template, as ``Renderer`` is told to.

    Args:
        control: the tokenizer's control tokens.
        stops: texts of tokens that end an answer.
        train_on: answers | last_answer | everything.
        rewritten_history: split | refuse.
        eos: written after the last answer where the template ends it with nothing; empty where that is refused.
    """

    def __init__(
        self, control: ControlTokens, stops: frozenset[str], *, train_on: str, rewritten_history: str, eos: str
    ) -> None:
        self.control = control
        self.stops = stops
        self.train_on = train_on
        self.rewritten_history = rewritten_history
        self.eos = eos

    def write(self, chat: Chat) -> list[Written]:
        """The texts of a conversation's examples, and what of them is trained.

        Raises:
            RowError: this row cannot be used.
            TemplateError: the template cannot say honestly which tokens are trained.
        """
        if self.train_on == "everything":
            return [self._everything(chat)]
        located = [chat.locate(turn, self.control, self.stops) for turn in self._trained_turns(chat.conversation)]
        whole = self._in_one(chat, located)
        if isinstance(whole, str) and self.rewritten_history == "refuse":
            raise TemplateError(
                f"{chat.conversation.source}: one sequence cannot show each answer as it will be generated: {whole}. "
                "Set rewritten_history: split to train each answer as an example of its own."
            )
        return [self._alone(chat, found) for found in located] if isinstance(whole, str) else [whole]

    def _trained_turns(self, conversation: Conversation) -> list[int]:
        messages = conversation.messages
        answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
        usual = set(answers[-1:] if self.train_on == "last_answer" else answers)
        wanted = [i for i, message in enumerate(messages) if message.train or (message.train is None and i in usual)]
        trained = [index for index in wanted if messages[index].weight * conversation.weight]
        if not trained:
            why = "every weight is 0" if wanted else "every answer is marked train: false"
            raise RowError(conversation.source, f"no trained tokens: {why if answers else 'no message is an answer'}")
        return trained

    def _in_one(self, chat: Chat, located: Sequence[Located]) -> Written | str:
        """One example with every trained turn, or why one sequence would not be honest."""
        answers = [found for found in located if chat.is_answer(found.turn)] or located
        kwargs, last = answers[0].kwargs, located[-1]
        other = next((found.kwargs for found in answers if found.kwargs != kwargs), None)
        if other is not None:
            return f"its answers need different template variables ({dict(kwargs)} and {dict(other)})"
        is_known = last.turn == chat.last and last.kwargs == kwargs
        text = last.text if is_known else chat.write(len(chat.turns), kwargs)
        stretches = []
        for found in located:
            reason = _rewritten(text, found)
            if reason:
                return reason
            end = found.end or self._marker_end(text, found)
            if end is None and found.turn < chat.last:
                return f"the template ends message {found.turn + 1} with no token"
            if end is None:
                text = self._with_eos(chat, found)
                end = len(text)
            stretches.append(_stretch(chat, found, end))
        return Written(text, tuple(stretches), kwargs, is_answered=chat.is_answer(answers[0].turn))

    def _alone(self, chat: Chat, found: Located) -> Written:
        """One example that ends with one trained turn."""
        text = found.text if found.end else self._with_eos(chat, found)
        stretch = _stretch(chat, found, found.end or len(text))
        return Written(text, (stretch,), found.kwargs, turn=found.turn, is_answered=stretch.is_answer)

    def _marker_end(self, text: str, found: Located) -> int | None:
        """Where a turn ends that the template closes only with the marker of the next role: that is its stop token."""
        stop = self.control.after(text, found.body_end)
        return stop[1] if stop else None

    def _with_eos(self, chat: Chat, found: Located) -> str:
        if self.eos:
            return found.text[: found.body_end] + self.eos
        raise TemplateError(
            f"{chat.conversation.source}: the chat template writes no special token after the answer in message "
            f"{found.turn + 1}; it ends {snippet(found.text, end=True)}. A model trained on it would never stop. "
            "Set append_eos: true to end the answer with the tokenizer's end-of-sequence token, or choose another "
            "chat_template."
        )

    def _everything(self, chat: Chat) -> Written:
        """One example in which every token but the first is trained, save turns that say train: false."""
        kwargs: Mapping[str, Any] = chat.kwargs
        if chat.last > 0 and chat.is_answer(chat.last):
            found = chat.locate(chat.last, self.control, self.stops)
            kwargs = found.kwargs
            text = found.text if found.end else self._with_eos(chat, found)
        else:
            text = chat.write(len(chat.turns), kwargs)
        stretches = list(_every_turn(chat, text, kwargs, self.control))
        if not stretches:
            raise RowError(chat.conversation.source, "no trained tokens: every message has weight 0 or train: false")
        return Written(text, tuple(stretches), kwargs, is_answered=chat.last > 0 and chat.is_answer(chat.last))


def as_text(kwargs: Mapping[str, Any]) -> str:
    """Template variables as JSON text, the same for the same ones."""
    return json.dumps(dict(kwargs), sort_keys=True, default=str)


def agreed_kwargs(answer_kwargs: Sequence[str], without_any: Mapping[str, Any]) -> dict[str, Any]:
    """The template variables that all answers were written with; ``without_any`` where there is no answer."""
    seen = [json.loads(kwargs) for kwargs in answer_kwargs]
    if not seen:
        return dict(without_any)
    return {
        name: value
        for name, value in seen[0].items()
        if all(name in kwargs and kwargs[name] == value for kwargs in seen)
    }


def _rewritten(text: str, found: Located) -> str | None:
    """Why a turn does not stand in ``text`` as it will be generated; None if it does."""
    generated = found.text[: found.end or found.body_end]
    if text.startswith(generated):
        return None
    alone, later = differing(generated, text)
    return (
        f"the template writes message {found.turn + 1} as {alone} when it is generated, "
        f"but as {later} once later messages follow"
    )


def _stretch(chat: Chat, found: Located, end: int) -> Stretch:
    conversation = chat.conversation
    weight = conversation.messages[found.turn].weight * conversation.weight
    return Stretch(found.turn, found.start, found.body_end, end, weight, chat.is_answer(found.turn))


def _every_turn(chat: Chat, text: str, kwargs: Mapping[str, Any], control: ControlTokens) -> Iterator[Stretch]:
    """Cut a text into its messages. One whose end the template does not show is joined to the next, and so is one that
    it writes within the next: a system message in the first question, after the token that begins the text."""
    messages = chat.conversation.messages
    start = first = 0
    for turn, message in enumerate(messages):
        end = len(text) if turn == chat.last else _prefix_length(chat, turn, text, kwargs)
        if end is None or (turn < chat.last and message.content and control.only_tail(text[start:end], 0)):
            continue
        if len({(joined.train is False, joined.weight) for joined in messages[first : turn + 1]}) > 1:
            reason = "the chat template does not show where a message ends that is weighted or not trained"
            raise RowError(chat.conversation.source, reason)
        weight = message.weight * chat.conversation.weight
        if message.train is not False and weight:
            yield Stretch(turn, start, end, end, weight)
        start, first = end, turn + 1


def _prefix_length(chat: Chat, turn: int, text: str, kwargs: Mapping[str, Any]) -> int | None:
    try:
        prefix = chat.write(turn + 1, kwargs)
    except jinja2.TemplateError:
        return None
    return len(prefix) if text.startswith(prefix) else None
