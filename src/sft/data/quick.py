"""Rendering by shape: usual conversations are filled in and encoded many at a time, unusual ones in full.

    Conversations  ->  texts of their holes  ->  ids (in threads)  ->  Run: their examples as flat arrays

Nothing is taken on trust: of each shape the first conversations, and one in a thousand afterwards, are rendered in full
as well, and ids and masks must be the same. If one is not, all of it is rendered in full from the start.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from sft.data.assembly import NOTHING, Assembled, Numbers, Plan, Pool, assemble
from sft.data.byte_bpe import EncodedTexts, byte_bpe_of, flatten
from sft.data.render import Renderer
from sft.data.runs import Run
from sft.data.shapes import Shapes
from sft.data.types import Conversation, Example
from sft.errors import RowError

BATCH = 1024
"""Conversations that are encoded at one go."""

AHEAD = 2
"""Batches for each thread that are being encoded while later rows are read."""

CHECKED_FIRST = 16
CHECKED_EVERY = 1000
"""Conversations of a shape that are rendered in full, too."""


class Differs(Exception):
    """A conversation rendered by its shape is not what it is rendered in full."""


@dataclass(frozen=True, slots=True)
class InFull:
    """One conversation that was rendered by itself."""

    conversation: Conversation
    examples: list[Example] | RowError
    """Its examples, or why it cannot be used."""


def render_by_shape(quick: QuickRenderer, conversations: Iterable[Conversation]) -> Iterator[Run | InFull]:
    """All conversations, in order.

    Raises:
        TemplateError: the template cannot say honestly which tokens are trained.
        Differs: shapes cannot be trusted here; nothing of what came before may be used.
    """
    rest = iter(conversations)
    with ThreadPoolExecutor(quick.threads) as pool:
        under_way: deque[Batch] = deque()
        while batch := list(islice(rest, BATCH)):
            under_way.append(quick.begin(batch, pool))
            if len(under_way) > AHEAD * quick.threads:
                yield from quick.finish(under_way.popleft())
        while under_way:
            yield from quick.finish(under_way.popleft())


def render_in_full(renderer: Renderer, conversations: Iterable[Conversation]) -> Iterator[InFull]:
    """All conversations, each by itself."""
    return (rendered_alone(renderer, conversation) for conversation in conversations)


def rendered_alone(renderer: Renderer, conversation: Conversation) -> InFull:
    """A conversation rendered in full, or why it cannot be used."""
    try:
        return InFull(conversation, renderer.render(conversation))
    except RowError as error:
        return InFull(conversation, error)


@dataclass(frozen=True, slots=True)
class Batch:
    """Conversations whose texts are being encoded."""

    conversations: Sequence[Conversation]
    plans: Sequence[Plan | None]
    """What each is put together of; None where it is rendered in full."""
    encoded: Future[EncodedTexts]


class QuickRenderer:
    """Renders batches of conversations with what was learnt of their shapes.

    Args:
        full: renders those that are unusual.
        threads: that encode.
    """

    def __init__(self, full: Renderer, threads: int = 1) -> None:
        self.full = full
        self.threads = threads
        self._shapes = Shapes(full)
        self._bpe = byte_bpe_of(full.tokenizer) if self._shapes.are_usable else None
        self._plans: dict[int, Plan] = {}
        self._met: Counter[Plan] = Counter()

    def begin(self, batch: Sequence[Conversation], pool: ThreadPoolExecutor) -> Batch:
        """Fill in the texts of a batch and give them away to be encoded."""
        plans = [self._plan(conversation) for conversation in batch]
        texts: list[str] = []
        for conversation, plan in zip(batch, plans, strict=True):
            if plan is not None:
                contents = [message.content for message in conversation.messages]
                texts += [text.fill(contents) for text in plan.texts]
        return Batch(batch, plans, pool.submit(self._encode, texts))

    def finish(self, batch: Batch) -> Iterator[Run | InFull]:
        """The examples of a batch, in the order of its conversations."""
        assembled = self._assemble(batch)
        start = 0
        for place in [*assembled.left_over(), len(batch.conversations)]:
            if place > start:
                yield assembled.run_of(start, place)
            if place < len(batch.conversations):
                yield rendered_alone(self.full, batch.conversations[place])
            start = place + 1

    def _plan(self, conversation: Conversation) -> Plan | None:
        shape = self._shapes.of(conversation)
        if shape is None:
            return None
        plan = self._plans.get(id(shape))
        if plan is None:
            plan = self._plans[id(shape)] = Plan(shape, self._encode)
        return plan

    def _encode(self, texts: Sequence[str]) -> EncodedTexts:
        if not texts:
            return flatten([])
        if self._bpe is not None:
            return self._bpe.encode(texts)
        backend = self.full.tokenizer.backend_tokenizer
        return flatten([encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)])

    def _assemble(self, batch: Batch) -> Assembled:
        try:
            pool = Pool(batch.encoded.result())
        except UnicodeEncodeError:  # rendered in full, the row it comes from says so
            return assemble(batch.conversations, {}, NOTHING, Pool(flatten([])))
        texts = [0 if plan is None else len(plan.texts) for plan in batch.plans]
        firsts = np.cumsum([0, *texts])
        rows = {}
        for plan, places in _by_plan(batch.plans).items():
            rows[plan] = places[plan.begin_with_prompts(firsts[places], pool)]
        assembled = assemble(batch.conversations, rows, firsts, pool)
        for plan, places in rows.items():
            self._check(plan, places, assembled)
            self._count(plan, len(places))
        return assembled

    def _check(self, plan: Plan, places: Numbers, assembled: Assembled) -> None:
        """Render some conversations of a shape in full, too."""
        count = self._met[plan] + np.arange(1, len(places) + 1)
        self._met[plan] += len(places)
        for place in places[(count <= CHECKED_FIRST) | (count % CHECKED_EVERY == 0)].tolist():
            conversation = assembled.conversations[place]
            counts = self.full.counts.copy()
            with self.full.trying():
                full = rendered_alone(self.full, conversation).examples
            self.full.counts = counts
            if isinstance(full, RowError) or not _same([*assembled.run_of(place, place + 1)], full):
                raise Differs(str(conversation.source))

    def _count(self, plan: Plan, times: int) -> None:
        counts = self.full.counts
        counts["conversations"] += times
        counts["split"] += times * (len(plan.shape) > 1)
        counts["examples"] += times * len(plan.shape)
        for example in plan.shape:
            self.full.note_kwargs(example.answer_kwargs, times)


def _by_plan(plans: Sequence[Plan | None]) -> dict[Plan, Numbers]:
    places: dict[Plan, list[int]] = {}
    for place, plan in enumerate(plans):
        if plan is not None:
            places.setdefault(plan, []).append(place)
    return {plan: np.array(found, np.int64) for plan, found in places.items()}


def _same(some: Sequence[Example], others: Sequence[Example]) -> bool:
    return len(some) == len(others) and all(
        one.turn == other.turn
        and np.array_equal(one.input_ids, other.input_ids)
        and np.array_equal(one.loss_mask, other.loss_mask)
        and other.weights is None
        for one, other in zip(some, others, strict=True)
    )
