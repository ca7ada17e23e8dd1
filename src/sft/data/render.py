"""Second hop: Conversation -> Example(s), token ids and loss mask made together.

The text is byte for byte what the chat template writes. Trained are the body of each trained turn and the token that
ends it. The untrained head of an answer is exactly the generation prompt that chat and evaluation will send, token by
token. Every example is checked: what its trained tokens decode to is what the data has.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from sft.data.answers import Located, differing, snippet
from sft.data.chat import Chat, probe_turn_end
from sft.data.chat_template import ChatTemplate
from sft.data.control import UNSHIELDED, ControlTokens, Shield, Uncovered
from sft.data.encode import Encoder
from sft.data.example import Stretch, make_example
from sft.data.markers import disagreement
from sft.data.token_rows import example_of_tokens
from sft.data.types import Conversation, Example, Message, TokenRow
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


class Renderer:
    """Renders conversations with the chat template of one tokenizer.

    Args:
        tokenizer: its template writes the text.
        train_on: answers | last_answer | everything. A message's own ``train`` wins.
        rewritten_history: split | refuse, where one sequence cannot show each answer as it will be generated.
        template_kwargs: variables for the template. Those that say whether the answer has thoughts are found out from
            the data where they are not given.
        allow_special_tokens: let special-token text in messages act as control tokens.
        append_eos: write the end-of-sequence token after the last answer where the template ends it with nothing. It
            takes the place of white space that follows the answer; nothing else ever differs from the template's text.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        train_on: str = "answers",
        rewritten_history: str = "split",
        template_kwargs: Mapping[str, Any] | None = None,
        allow_special_tokens: bool = False,
        append_eos: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.train_on = train_on
        self.rewritten_history = rewritten_history
        self.template_kwargs = dict(template_kwargs or {})
        self.allow_special_tokens = allow_special_tokens
        self.append_eos = append_eos
        self.template = ChatTemplate(tokenizer)
        added = [str(token) for token in tokenizer.added_tokens_decoder.values()]
        known_ends = {probe_turn_end(self.template, added), tokenizer.eos_token} - {None}
        self.stops = frozenset(map(str, known_ends))
        self.control = ControlTokens.of(tokenizer, self.stops)
        self.encoder = Encoder(tokenizer, self.control)
        self.counts: Counter[str] = Counter()
        """``conversations`` rendered; how many were ``split``; ``examples``; how many of them hold ``special_text``
        that was kept plain, or were ``encoded_apart`` because a token straddled the border of a prompt."""
        self._answer_kwargs: Counter[str] = Counter()

    def render(self, conversation: Conversation) -> list[Example]:
        """Render one conversation: one example, or one per trained answer where the template rewrites history.

        Raises:
            RowError: this row cannot be used; ``reason`` is short and countable.
            TemplateError: the template cannot say honestly which tokens are trained.
        """
        try:
            if conversation.tokens is not None:
                examples = [self._take(conversation, conversation.tokens)]
            elif conversation.text is not None:
                examples = [self._render_text(conversation, conversation.text)]
            else:
                examples = self._render_chat(conversation)
        except jinja2.TemplateError as error:
            reason = "the chat template refuses the conversation"
            raise RowError(conversation.source, reason, f"It says: {error}") from error
        self.counts["conversations"] += 1
        self.counts["split"] += len(examples) > 1
        return examples

    @property
    def generation_kwargs(self) -> dict[str, Any]:
        """Template variables that chat and evaluation must send, so that the prompt is the head of the trained answers.

        Found out from the conversations rendered so far; those that answers do not agree on are left out.
        """
        return agreed_kwargs(self.answer_kwargs, self.template_kwargs)

    @property
    def answer_kwargs(self) -> list[str]:
        """Template variables that answers were written with so far, each set of them once, as JSON text."""
        return list(self._answer_kwargs)

    def generation_prompt(self, messages: Sequence[Message | Mapping[str, Any]], tools: Sequence[Any] = ()) -> str:
        """The text to generate an answer after, which chat and evaluation send.

        Raises:
            TemplateError: the template refuses the messages.
        """
        turns = [message.for_template() if isinstance(message, Message) else message for message in messages]
        try:
            return self.template.write(turns, tools, self.generation_kwargs, generation_prompt=True)
        except jinja2.TemplateError as error:
            raise TemplateError(f"the chat template refuses the conversation. It says: {error}") from error

    def generation_ids(self, messages: Sequence[Message | Mapping[str, Any]], tools: Sequence[Any] = ()) -> list[int]:
        """The token ids to generate an answer after: those that precede a trained answer to these messages.

        Special-token text in the messages is content, as in training.
        """
        turns = [message.for_template() if isinstance(message, Message) else message for message in messages]
        shield = UNSHIELDED if self.allow_special_tokens else Shield.over(self.control, turns, tools)
        prompt = self.generation_prompt(shield.cover(self.control, turns), shield.cover(self.control, tools))
        written = shield.uncover(prompt)
        return self.encoder.encode(written.text, owned=written.owned).ids

    def text_ids(self, text: str) -> list[int]:
        """The token ids to go on from after a plain text: those that precede a trained continuation of it.

        As in training, the beginning-of-sequence token stands before it where the tokenizer begins texts with one, and
        special-token text in it is content.
        """
        shield = UNSHIELDED if self.allow_special_tokens else Shield.over(self.control, text)
        bos = self._bos_before(text)
        written = shield.uncover(bos + shield.cover(self.control, text))
        return self.encoder.encode(written.text, owned=written.owned, begins_at=len(bos)).ids

    def _take(self, conversation: Conversation, tokens: TokenRow) -> Example:
        everything = self.train_on == "everything"
        return example_of_tokens(conversation, tokens, vocabulary=len(self.tokenizer), trains_everything=everything)

    # Chats

    def _render_chat(self, conversation: Conversation) -> list[Example]:
        control = None if self.allow_special_tokens else self.control
        chat = Chat.of(conversation, self.template, self.template_kwargs, control)
        return [self._example(chat, written) for written in self.write(chat)]

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
        written = [self._alone(chat, found) for found in located] if isinstance(whole, str) else [whole]
        for found in located:
            if chat.is_answer(found.turn):
                self.note_kwargs(found.kwargs)
        return written

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
        return Written(text, tuple(stretches), kwargs)

    def _alone(self, chat: Chat, found: Located) -> Written:
        """One example that ends with one trained turn."""
        text = found.text if found.end else self._with_eos(chat, found)
        stretch = _stretch(chat, found, found.end or len(text))
        return Written(text, (stretch,), found.kwargs, turn=found.turn)

    def _marker_end(self, text: str, found: Located) -> int | None:
        """Where a turn ends that the template closes only with the marker of the next role: that is its stop token."""
        stop = self.control.after(text, found.body_end)
        return stop[1] if stop else None

    def _with_eos(self, chat: Chat, found: Located) -> str:
        if self.append_eos and self.tokenizer.eos_token:
            return found.text[: found.body_end] + str(self.tokenizer.eos_token)
        raise TemplateError(
            f"{chat.conversation.source}: the chat template writes no special token after the answer in message "
            f"{found.turn + 1}; it ends {snippet(found.text, end=True)}. A model trained on it would never stop. "
            "Set append_eos: true to end the answer with the tokenizer's end-of-sequence token, or choose another "
            "chat_template."
        )

    # Everything

    def _everything(self, chat: Chat) -> Written:
        """One example in which every token but the first is trained, save turns that say train: false."""
        kwargs: Mapping[str, Any] = chat.kwargs
        if chat.last > 0 and chat.is_answer(chat.last):
            found = chat.locate(chat.last, self.control, self.stops)
            kwargs = found.kwargs
            text = found.text if found.end else self._with_eos(chat, found)
            self.note_kwargs(found.kwargs)
        else:
            text = chat.write(len(chat.turns), kwargs)
        stretches = list(_every_turn(chat, text, kwargs, self.control))
        if not stretches:
            raise RowError(chat.conversation.source, "no trained tokens: every message has weight 0 or train: false")
        return Written(text, tuple(stretches), kwargs)

    # Plain text

    def _render_text(self, conversation: Conversation, text: str) -> Example:
        """``bos`` (if the tokenizer begins texts with it), the text, ``eos``."""
        prompt = conversation.prompt or ""
        if not conversation.weight:
            raise RowError(conversation.source, "no trained tokens: every weight is 0")
        if not text.startswith(prompt):
            raise RowError(conversation.source, "the prompt is not the head of the text")
        bos, eos = self._text_ends(conversation, text)
        covered = text
        if not self.allow_special_tokens:
            shield = Shield.over(self.control, text)
            covered, prompt = shield.cover(self.control, text), shield.cover(self.control, prompt)
            if not covered.startswith(prompt):
                raise RowError(conversation.source, "special-token text lies across the end of the prompt")
            written = shield.uncover(bos + covered + eos)
        else:
            written = Uncovered(bos + text + eos, (), ())
        start = len(bos) + (0 if self.train_on == "everything" else len(prompt))
        end = len(bos + covered + eos)
        stretch = Stretch(-1, start, end - len(eos), end, conversation.weight)
        example, is_straddled = make_example(self.encoder, written, [stretch], conversation.source, begins_at=len(bos))
        self._count(written, is_straddled)
        return example

    def _text_ends(self, conversation: Conversation, text: str) -> tuple[str, str]:
        eos = self.tokenizer.eos_token
        if eos is None:
            raise TemplateError(
                f"{conversation.source}: a plain text ends with the end-of-sequence token, but the tokenizer has none. "
                "A model trained on it would never stop. Give the tokenizer an eos_token."
            )
        return self._bos_before(text), "" if self.allow_special_tokens and text.endswith(eos) else eos

    def _bos_before(self, text: str) -> str:
        bos = str(self.tokenizer.bos_token or "") if self.encoder.begins_with_bos else ""
        return "" if self.allow_special_tokens and text.startswith(bos) else bos

    # Examples

    def _example(self, chat: Chat, written: Written) -> Example:
        text, stretches, kwargs, turn = written.text, written.stretches, written.kwargs, written.turn
        num_turns = len(chat.turns) if turn is None else turn + 1
        is_exact = self.train_on != "everything"
        if self.template.has_markers and is_exact:
            self._compare_markers(chat, text, stretches, num_turns, kwargs)
        may_be_appended = self.append_eos and stretches[-1].end == len(text)
        eos_at = len(text) - len(str(self.tokenizer.eos_token)) if may_be_appended else None
        uncovered = chat.uncover(text, num_turns, kwargs, eos_at=eos_at)
        source = chat.conversation.source
        example, is_straddled = make_example(self.encoder, uncovered, stretches, source, turn=turn, is_exact=is_exact)
        self._count(uncovered, is_straddled)
        return example

    def _compare_markers(
        self, chat: Chat, text: str, stretches: Sequence[Stretch], num_turns: int, kwargs: Mapping[str, Any]
    ) -> None:
        _, marked = self.template.write_marked(chat.turns[:num_turns], chat.tools, kwargs)
        for stretch in stretches:
            if not stretch.is_answer:
                continue
            reason = disagreement(text, stretch.start, stretch.body_end, stretch.end, marked, self.control)
            if reason:
                raise TemplateError(
                    f"{chat.conversation.source}: the template's generation markers and its generation prompt do not "
                    f"agree on the answer in message {stretch.turn + 1}: {reason}. "
                    "Correct the markers in the template, or leave them out."
                )

    def _count(self, written: Uncovered, is_straddled: bool) -> None:
        self.counts["examples"] += 1
        self.counts["special_text"] += bool(written.owned)
        self.counts["encoded_apart"] += is_straddled

    def note_kwargs(self, kwargs: Mapping[str, Any], times: int = 1) -> None:
        """Count the template variables that answers were written with, of which ``generation_kwargs`` is made."""
        if times:
            self._answer_kwargs[json.dumps(dict(kwargs), sort_keys=True, default=str)] += times


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
