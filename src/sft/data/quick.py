"""Rendering by shape: usual conversations are filled in and encoded many at a time, unusual ones in full.

Nothing is taken on trust: of each shape the first conversations, and one in a thousand afterwards, are rendered in full
as well, and ids and masks must be the same. If one is not, all of it is rendered in full from the start.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from sft.data.byte_bpe import byte_bpe_of
from sft.data.render import Renderer
from sft.data.shapes import ExampleShape, Fixed, Hole, Shape, Shapes
from sft.data.types import Conversation, Example
from sft.errors import RowError

BATCH = 2048
"""Conversations that are encoded at one go."""

CHECKED_FIRST = 16
CHECKED_EVERY = 1000
"""Conversations of a shape that are rendered in full, too."""


class Differs(Exception):
    """A conversation rendered by its shape is not what it is rendered in full."""


def render_by_shape(
    renderer: Renderer, conversations: Iterable[Conversation]
) -> Iterator[tuple[Conversation, list[Example] | RowError]]:
    """Each conversation with its examples, or with why it cannot be used, in order.

    The examples have no ``text``.

    Raises:
        TemplateError: the template cannot say honestly which tokens are trained.
        Differs: shapes cannot be trusted here; nothing of what came before may be used.
    """
    quick = QuickRenderer(renderer)
    rest = iter(conversations)
    while batch := list(islice(rest, BATCH)):
        yield from zip(batch, quick.render(batch), strict=True)


def rendered_or_refused(renderer: Renderer, conversation: Conversation) -> list[Example] | RowError:
    """A conversation rendered in full, or why it cannot be used."""
    try:
        return renderer.render(conversation)
    except RowError as error:
        return error


class QuickRenderer:
    """Renders batches of conversations with what was learnt of their shapes."""

    def __init__(self, full: Renderer) -> None:
        self.full = full
        self._shapes = Shapes(full)
        self._bpe = byte_bpe_of(full.tokenizer)
        self._threads = os.cpu_count() or 1
        self._met: Counter[int] = Counter()

    def render(self, batch: Sequence[Conversation]) -> Iterator[list[Example] | RowError]:
        shapes = [self._shapes.of(conversation) for conversation in batch]
        texts = list(_texts_of(batch, shapes))
        encoded = self._encode(texts) if texts else iter(())
        taken: Counter[int] = Counter()
        for conversation, shape in zip(batch, shapes, strict=True):
            examples = None
            if shape is not None:
                examples = self._fill(conversation, shape, encoded)
            if examples is None or shape is None:
                yield rendered_or_refused(self.full, conversation)
                continue
            self._check(conversation, shape, examples)
            taken[id(shape)] += 1
            yield examples
        for shape in {id(shape): shape for shape in shapes if shape is not None}.values():
            self._count(shape, taken[id(shape)])

    def _encode(self, texts: list[str]) -> Iterator[list[int]]:
        if self._bpe is None:
            backend = self.full.tokenizer.backend_tokenizer
            return (encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False))
        return iter(self._bpe.encode(texts, threads=self._threads))

    def _fill(self, conversation: Conversation, shape: Shape, encoded: Iterator[list[int]]) -> list[Example] | None:
        """Put the encoded holes between the fixed tokens; None where a token straddles the end of a prompt."""
        examples: list[Example] | None = []
        for example_shape in shape:
            ids: list[int] = []
            mask = bytearray()
            for part in example_shape.parts:
                if isinstance(part, Fixed):
                    ids += part.ids
                    mask += part.mask
                    continue
                own = next(encoded)
                prompt = [] if part.prompt is None else next(encoded)
                if own[: len(prompt)] != prompt:
                    examples = None
                ids += own
                mask += bytes(len(prompt)) + bytes([part.is_trained]) * (len(own) - len(prompt))
            if examples is not None:
                mask[0] = 0
                examples.append(_example(conversation, example_shape, ids, mask))
        return examples

    def _check(self, conversation: Conversation, shape: Shape, examples: Sequence[Example]) -> None:
        self._met[id(shape)] += 1
        count = self._met[id(shape)]
        if count > CHECKED_FIRST and count % CHECKED_EVERY:
            return
        counts = self.full.counts.copy()
        full = rendered_or_refused(self.full, conversation)
        self.full.counts = counts
        if isinstance(full, RowError) or not _same(examples, full):
            raise Differs(str(conversation.source))

    def _count(self, shape: Shape, times: int) -> None:
        counts = self.full.counts
        counts["conversations"] += times
        counts["split"] += times * (len(shape) > 1)
        counts["examples"] += times * len(shape)
        for example in shape:
            self.full.note_kwargs(example.kwargs, times * example.num_answers)


def _texts_of(batch: Sequence[Conversation], shapes: Sequence[Shape | None]) -> Iterator[str]:
    for conversation, shape in zip(batch, shapes, strict=True):
        if shape is None:
            continue
        contents = [message.content for message in conversation.messages]
        for example in shape:
            for part in example.parts:
                if isinstance(part, Hole):
                    yield part.text.fill(contents)
                    if part.prompt is not None:
                        yield part.prompt.fill(contents)


def _example(conversation: Conversation, shape: ExampleShape, ids: list[int], mask: bytearray) -> Example:
    return Example(
        input_ids=np.array(ids, np.int32),
        loss_mask=np.frombuffer(mask, np.uint8),
        text="",
        source=conversation.source,
        turn=shape.turn,
    )


def _same(some: Sequence[Example], others: Sequence[Example]) -> bool:
    return len(some) == len(others) and all(
        one.turn == other.turn
        and np.array_equal(one.input_ids, other.input_ids)
        and np.array_equal(one.loss_mask, other.loss_mask)
        and other.weights is None
        for one, other in zip(some, others, strict=True)
    )
