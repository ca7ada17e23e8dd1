"""What a chat template writes around contents, learnt once for conversations of the same shape.

Two conversations have the same shape when their roles, and which turns are trained, are the same. A template is asked
with stand-ins for the contents, twice; what it writes around them is cut at the tokenizer's added tokens, so that a row
needs only its holes filled and encoded. A template that looks into contents is known by the texts it looks for, and a
row that holds one of them, or anything else unusual, is rendered in full.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jinja2
from transformers import PreTrainedTokenizerBase

from sft.data.chat import Chat
from sft.data.example import Stretch
from sft.data.looked_for import looked_for
from sft.data.render import Renderer
from sft.data.types import Conversation, Message
from sft.data.writing import Written
from sft.errors import RowError, TemplateError

STAND_INS = ("Qzw{}xv", "Kj {}\n\n  vq{}")
"""Contents that no template knows, of two kinds; the number of the message makes each one of its own."""

ShapeKey = tuple[tuple[str, bool | None], ...]


@dataclass(frozen=True, slots=True)
class Filled:
    """A text with holes for contents."""

    literals: tuple[str, ...]
    """One more than there are holes."""
    messages: tuple[int, ...]
    """Whose content each hole takes."""

    def fill(self, contents: Sequence[str]) -> str:
        """The text with its contents in place."""
        pieces = [self.literals[0]]
        for message, literal in zip(self.messages, self.literals[1:], strict=True):
            pieces += (contents[message], literal)
        return "".join(pieces)


@dataclass(frozen=True, slots=True)
class Hole:
    """A stretch between two added tokens that contents stand in: it is encoded anew for each row."""

    text: Filled
    prompt: Filled | None
    """The head of it that is not trained, where it is trained in part."""
    is_trained: bool
    """Whether what follows ``prompt`` is."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Tokens that are the same in every row of a shape."""

    ids: tuple[int, ...]
    mask: bytes


@dataclass(frozen=True, slots=True)
class ExampleShape:
    """One example of a conversation of some shape."""

    parts: tuple[Fixed | Hole, ...]
    turn: int | None
    answer_kwargs: str | None
    """See ``Written``."""


Shape = tuple[ExampleShape, ...]


class Shapes:
    """Shapes of conversations for one renderer, learnt when they are first met."""

    def __init__(self, renderer: Renderer) -> None:
        self.renderer = renderer
        tokenizer = renderer.tokenizer
        self._ids = {str(token): number for number, token in tokenizer.added_tokens_decoder.items()}
        texts = sorted({*self._ids, *renderer.control.texts}, key=len, reverse=True)
        self._cut = re.compile("(" + "|".join(map(re.escape, texts)) + ")") if texts else re.compile(r"(?!)()")
        wanted = looked_for(renderer.template.source)
        can_cut = tokenizer.is_fast and cuts_are_hard(tokenizer)
        self.are_usable = wanted is not None and renderer.train_on != "everything" and can_cut
        """Whether this template and tokenizer have shapes at all."""
        self._compared = frozenset(wanted.compared if wanted else ())
        searched = sorted({*texts, *(wanted.searched if wanted else ())})
        self._unusual = re.compile("|".join(map(re.escape, searched)) or r"(?!)")
        self._known: dict[ShapeKey, Shape | None] = {}

    def of(self, conversation: Conversation) -> Shape | None:
        """The shape of a conversation; None where it must be rendered in full."""
        if not self.are_usable or conversation.text is not None or conversation.tools or conversation.template_kwargs:
            return None
        if conversation.weight != 1 or conversation.tokens is not None:
            return None
        for message in conversation.messages:
            if not self._is_plain(message):
                return None
        key = tuple([(message.role, message.train) for message in conversation.messages])
        if key not in self._known:
            self._known[key] = self._learn(conversation)
        return self._known[key]

    def _is_plain(self, message: Message) -> bool:
        content = message.content
        has_more = message.reasoning is not None or message.tool_calls or message.name or message.tool_call_id
        if has_more or message.weight != 1 or not content or content[0].isspace() or content[-1].isspace():
            return False
        return content not in self._compared and self._unusual.search(content) is None

    def _learn(self, conversation: Conversation) -> Shape | None:
        shapes = [self._ask(conversation, stand_in) for stand_in in STAND_INS]
        return shapes[0] if shapes[0] == shapes[1] else None

    def _ask(self, conversation: Conversation, stand_in: str) -> Shape | None:
        contents = [stand_in.format(number, number) for number in range(len(conversation.messages))]
        messages = [
            replace(message, content=content) for message, content in zip(conversation.messages, contents, strict=True)
        ]
        asked = replace(conversation, messages=tuple(messages))
        chat = Chat.of(asked, self.renderer.template, self.renderer.template_kwargs, None)
        try:
            examples = self.renderer.writer.write(chat)
            found = [self._shape_of(written, contents) for written in examples]
        except (RowError, TemplateError, jinja2.TemplateError):
            return None
        return tuple(shape for shape in found if shape is not None) if None not in found else None

    def _shape_of(self, written: Written, contents: Sequence[str]) -> ExampleShape | None:
        parts: list[Fixed | Hole] = []
        place = 0
        for piece in self._cut.split(written.text):
            start, place = place, place + len(piece)
            trained = trained_part(written.stretches, start, place)
            if trained is None:
                return None
            if piece in self._ids:
                if trained not in (start, place):
                    return None
                parts.append(Fixed((self._ids[piece],), bytes([trained == start])))
            elif piece:
                part = self._between(piece, trained - start, contents)
                if part is None:
                    return None
                parts.append(part)
        return ExampleShape(tuple(joined(parts)), written.turn, written.answer_kwargs)

    def _between(self, piece: str, prompt_length: int, contents: Sequence[str]) -> Fixed | Hole | None:
        """A stretch between added tokens, of which what follows ``prompt_length`` is trained."""
        whole = with_holes(piece, contents)
        prompt = with_holes(piece[:prompt_length], contents)
        if whole is None or prompt is None or prompt.messages != whole.messages[: len(prompt.messages)]:
            return None
        is_trained = prompt_length < len(piece)
        if whole.messages:
            return Hole(whole, prompt if is_trained and prompt_length else None, is_trained)
        if is_trained and prompt_length:
            return None
        ids = self.renderer.encoder.encode(piece).ids
        return Fixed(tuple(ids), bytes([is_trained]) * len(ids))


def trained_part(stretches: Sequence[Stretch], start: int, stop: int) -> int | None:
    """Where in ``[start, stop)`` training begins, to go on to its end: ``stop`` where nothing of it is trained.

    None where that is not how it is trained: where a stretch ends inside.
    """
    touching = [stretch for stretch in stretches if stretch.start < stop and stretch.end > start]
    if not touching:
        return stop
    if len(touching) > 1 or touching[0].end < stop:
        return None
    return max(start, touching[0].start)


def with_holes(text: str, contents: Sequence[str]) -> Filled | None:
    """Cut a text at the contents, which stand in it in order and once each; None where they do not."""
    literals, messages = [], []
    rest = text
    for number, content in enumerate(contents):
        before, found, after = rest.partition(content)
        if found:
            literals.append(before)
            messages.append(number)
            rest = after
    literals.append(rest)
    if any(content in literal for content in contents for literal in literals):
        return None
    return Filled(tuple(literals), tuple(messages))


def joined(parts: Sequence[Fixed | Hole]) -> list[Fixed | Hole]:
    """Neighbouring fixed tokens as one."""
    result: list[Fixed | Hole] = []
    for part in parts:
        last = result[-1] if result else None
        if isinstance(part, Fixed) and isinstance(last, Fixed):
            result[-1] = Fixed(last.ids + part.ids, last.mask + part.mask)
        else:
            result.append(part)
    return result


def cuts_are_hard(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether added tokens take nothing but their own text, so that what stands beside them is encoded by itself."""
    tokens = tokenizer.added_tokens_decoder.values()
    return not any(token.lstrip or token.rstrip or token.single_word for token in tokens)
