"""Second hop: Conversation -> Example(s), token ids and loss mask made together.

The text is byte for byte what the chat template writes. Trained are the body of each trained turn and the token that
ends it. The untrained head of an answer is exactly the generation prompt that chat and evaluation will send, token by
token. Every example is checked: what its trained tokens decode to is what the data has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from sft.data.chat import Chat, probe_turn_end
from sft.data.chat_template import ChatTemplate
from sft.data.control import UNSHIELDED, ControlTokens, Shield, Uncovered
from sft.data.encode import Encoder
from sft.data.example import Stretch, make_example
from sft.data.markers import disagreement
from sft.data.token_rows import example_of_tokens
from sft.data.types import Conversation, Example, Message, TokenRow
from sft.data.writing import Writer, Written, agreed_kwargs
from sft.errors import RowError, TemplateError


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

    Raises:
        TemplateError: ``append_eos``, and the tokenizer has no such token.
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
        self.template_kwargs = dict(template_kwargs or {})
        self.allow_special_tokens = allow_special_tokens
        self.template = ChatTemplate(tokenizer)
        added = [str(token) for token in tokenizer.added_tokens_decoder.values()]
        known_ends = {probe_turn_end(self.template, added), tokenizer.eos_token} - {None}
        stops = frozenset(map(str, known_ends))
        self.control = ControlTokens.of(tokenizer, stops)
        self.encoder = Encoder(tokenizer, self.control)
        self.counts: Counter[str] = Counter()
        """``conversations`` rendered; how many were ``split``; ``examples``; how many of them hold ``special_text``
        that was kept plain, or were ``encoded_apart`` because a token straddled the border of a prompt."""
        self._answer_kwargs: Counter[str] = Counter()
        self._is_trying = False
        eos = _eos_of(tokenizer) if append_eos else ""
        self.writer = Writer(self.control, stops, train_on=train_on, rewritten_history=rewritten_history, eos=eos)

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
        return list(+self._answer_kwargs)

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
        examples = [self._example(chat, written) for written in self.writer.write(chat)]
        for example in () if self._is_trying else examples:
            self.note_kwargs(example.answer_kwargs)
        return examples

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
        may_be_appended = self.writer.eos and stretches[-1].end == len(text)
        eos_at = len(text) - len(self.writer.eos) if may_be_appended else None
        uncovered = chat.uncover(text, num_turns, kwargs, eos_at=eos_at)
        source = chat.conversation.source
        example, is_straddled = make_example(self.encoder, uncovered, stretches, source, turn=turn, is_exact=is_exact)
        self._count(uncovered, is_straddled)
        return replace(example, answer_kwargs=written.answer_kwargs)

    def note_kwargs(self, answer_kwargs: str | None, times: int = 1) -> None:
        """Count template variables that answers were written with, of which ``generation_kwargs`` is made.

        Args:
            times: below 0 for examples that are not trained on after all.
        """
        if answer_kwargs is not None and times:
            self._answer_kwargs[answer_kwargs] += times

    @contextmanager
    def trying(self) -> Iterator[None]:
        """While open, answers that are rendered do not count for ``generation_kwargs``."""
        self._is_trying = True
        try:
            yield
        finally:
            self._is_trying = False

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


def _eos_of(tokenizer: PreTrainedTokenizerBase) -> str:
    if tokenizer.eos_token is None:
        raise TemplateError(
            "append_eos: true ends answers with the tokenizer's end-of-sequence token, but this tokenizer has none. "
            "Give it one (tokenizer.eos_token, eos_token in tokenizer_config.json), or leave append_eos out where the "
            "chat template ends answers by itself."
        )
    return str(tokenizer.eos_token)
