"""Many prompts through a few slots: whenever an answer ends, the next prompt takes its slot at once.

Prompts are read apart from the answering, a few of like length together, the longest first; the keys and values they
leave are copied into slots (``slot_cache``). So nobody waits for the longest answer of a batch, and nobody reads
another's padding.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from sft.generation.batches import left_padded
from sft.generation.slot_cache import SlotCache
from sft.generation.slot_layout import Layout, Limits, Need, Request, plan_layout
from sft.generation.token_choice import RowState, TokenChoice

PREFILL_TOKENS = 4096
"""Most tokens, padding included, of prompts that are read together."""

STEPS_ON_CPU, STEPS_ELSEWHERE = 1, 4
"""So many tokens are written before the host looks which answers have ended; to look, it waits for the device."""


@dataclass
class Answer:
    """A row in a slot, or about to be."""

    number: int
    """Of the request."""

    prompt_length: int
    room: int
    tokens: list[int] = field(default_factory=list)

    @property
    def columns(self) -> int:
        """Tokens in the cache: the prompt and all that was written but the last, which is read next."""
        return self.prompt_length + len(self.tokens) - 1

    @property
    def remaining(self) -> int:
        """Tokens that may still be written."""
        return self.room - len(self.tokens)


class Prefilled(NamedTuple):
    """Prompts that were read together, and which of them still wait for a slot."""

    cache: Any
    state: RowState
    waiting: deque[tuple[int, Answer]]
    """Row and answer."""


class Forward:
    """A model's forward pass with only those arguments that it takes."""

    def __init__(self, model: Any) -> None:
        self._model = model
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        accepted = inspect.signature(base.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._last_logits: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def __call__(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, cache: Any = None
    ) -> tuple[torch.Tensor, Any]:
        """Logits after the last token, float32 (rows, vocabulary), and the cache."""
        positions = {"position_ids": position_ids} if self._takes_positions else {}
        output = self._model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            use_cache=True,
            **positions,
            **self._last_logits,
        )
        logits = output.logits[:, -1].to(device=attention_mask.device, dtype=torch.float32)
        return logits, getattr(output, "past_key_values", None)

    def read(self, rows: Sequence[Sequence[int]], pad_token_id: int) -> tuple[torch.Tensor, Any]:
        """The same after whole prompts, padded on the left."""
        input_ids, attention_mask = left_padded(rows, pad_token_id, self._model.device)
        return self(input_ids, attention_mask, (attention_mask.cumsum(-1) - 1).clamp(min=0))


class SlotDecoder:
    """Answers requests with a model whose cache is one of keys and values (``slot_check`` knows)."""

    def __init__(self, model: Any, template: Any, choice: TokenChoice, *, limits: Limits, pad_token_id: int) -> None:
        """
        Args:
            model: in evaluation mode; gradients off.
            template: a cache that the model has made, whatever is in it.
            choice: of each token.
            limits: of slots and columns.
            pad_token_id: what to fill rows with; it is never looked at.
        """
        self._forward = Forward(model)
        self._device = model.device
        self._choice = choice
        self._limits = limits
        self._pad = pad_token_id
        self._cache = SlotCache(template)
        self._layout = Layout(0, 0, 0)
        self._held: list[Answer | None] = []
        self._state: RowState = {}
        self._mask = torch.zeros((0, 0), dtype=torch.int64)
        self._queue: deque[Answer] = deque()
        self._prefilled: Prefilled | None = None
        self._requests: Sequence[Request] = ()
        self._longest = 0
        self._written: list[torch.Tensor] = []
        self._steps = STEPS_ON_CPU if self._device.type == "cpu" else STEPS_ELSEWHERE

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """What ends an answer."""
        return self._choice.stop_token_ids

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, list[int]]]:
        """Give each request's number and the tokens of its answer, stop token included, as soon as it has ended."""
        order = sorted(range(len(requests)), key=lambda number: (-len(requests[number].ids), number))
        self._requests = requests
        self._longest = max(request.room for request in requests)
        self._queue.extend(Answer(number, len(requests[number].ids), requests[number].room) for number in order)
        while True:
            yield from self._refill()
            if not any(self._held):
                return
            self._make_room()
            self._advance()
            yield from self._collect()

    def _refill(self) -> Iterator[tuple[int, list[int]]]:
        """Fill free slots until there are none, or nobody waits."""
        while self._queue or self._prefilled:
            if self._layout.slots and not self._free():
                return
            planned = plan_layout(self._needs(), self._limits)
            if 2 * planned.slots >= 3 * self._layout.slots and planned.slots > self._layout.slots:
                self._lay_out(planned)
            free = self._free()
            if self._prefilled is None:
                yield from self._prefill(max(len(free), self._layout.slots // 4))
            else:
                self._fill(free, self._prefilled)

    def _free(self) -> list[int]:
        return [slot for slot, answer in enumerate(self._held) if answer is None]

    def _prefill(self, most: int) -> Iterator[tuple[int, list[int]]]:
        """Read the next prompts, at most so many, and choose the first token of each answer."""
        taken = [self._queue.popleft()]
        budget = min(PREFILL_TOKENS, self._limits.tokens)
        while self._queue and len(taken) < most and (len(taken) + 1) * taken[0].prompt_length <= budget:
            taken.append(self._queue.popleft())
        prompts = [self._requests[answer.number].ids for answer in taken]
        logits, cache = self._forward.read(prompts, self._pad)
        state = self._choice.first_state(logits, prompts, [answer.number for answer in taken], self._longest)
        waiting: deque[tuple[int, Answer]] = deque()
        for row, (answer, token) in enumerate(zip(taken, state["token"].tolist(), strict=True)):
            if self._write(answer, [token]):
                yield answer.number, answer.tokens
            else:
                waiting.append((row, answer))
        self._prefilled = Prefilled(cache, state, waiting) if waiting else None

    def _fill(self, free: Sequence[int], prefilled: Prefilled) -> None:
        """Give slots to prompts that were read."""
        pairs = [prefilled.waiting.popleft() for _ in range(min(len(free), len(prefilled.waiting)))]
        slots, rows = list(free[: len(pairs)]), [row for row, _ in pairs]
        lengths = [answer.prompt_length for _, answer in pairs]
        self._cache.fill(slots, prefilled.cache, rows, lengths)
        to, source = self._indices(slots), self._indices(rows)
        for name, values in prefilled.state.items():
            if name not in self._state:
                self._state[name] = values.new_zeros((self._layout.slots, *values.shape[1:]))
            self._state[name][to] = values[source]
        for slot, (_, answer) in zip(slots, pairs, strict=True):
            self._held[slot] = answer
            self._show(slot, answer)
        if not prefilled.waiting:
            self._prefilled = None

    def _make_room(self) -> None:
        """Move the rows back when the clock has come to the end, or closer together when half of the slots are free."""
        living = sum(answer is not None for answer in self._held)
        if self._cache.clock == self._layout.columns or 2 * living <= self._layout.slots:
            self._lay_out(plan_layout(self._needs(), self._limits))

    def _lay_out(self, layout: Layout) -> None:
        """Take the rows in slots over into other buffers."""
        rows = [slot for slot, answer in enumerate(self._held) if answer is not None]
        held = [answer for answer in self._held if answer is not None]
        width = max((answer.columns for answer in held), default=0)
        self._cache.lay_out(rows, width, slots=layout.slots, columns=layout.columns, clock=layout.clock)
        chosen = self._indices(rows)
        for name, values in self._state.items():
            moved = values.new_zeros((layout.slots, *values.shape[1:]))
            moved[: len(rows)] = values[chosen]
            self._state[name] = moved
        self._layout = layout
        self._held = [*held, *[None] * (layout.slots - len(held))]
        self._mask = torch.ones((layout.slots, layout.columns), dtype=torch.int64, device=self._device)
        for slot, answer in enumerate(held):
            self._show(slot, answer)

    def _show(self, slot: int, answer: Answer) -> None:
        """Let a slot attend to its own columns, and to those that it will write."""
        start = self._cache.clock - answer.columns
        self._mask[slot, :start] = 0
        self._mask[slot, start:] = 1

    def _advance(self) -> None:
        """Write a few tokens in every slot."""
        living = [answer for answer in self._held if answer is not None]
        clock = self._cache.clock
        self._cache.first = first = clock - max(answer.columns for answer in living)
        steps = min(self._steps, self._layout.columns - clock, *(answer.remaining for answer in living))
        self._written = []
        for end in range(clock + 1, clock + steps + 1):
            token, position = self._state["token"][:, None], self._state["position"][:, None]
            logits, _ = self._forward(token, self._mask[:, first:end], position, self._cache)
            self._choice.advance(logits, self._state)
            self._written.append(self._state["token"])

    def _collect(self) -> Iterator[tuple[int, list[int]]]:
        """Read what was written, and free the slots of answers that have ended."""
        ended = []
        for slot, tokens in enumerate(torch.stack(self._written, 1).tolist()):
            answer = self._held[slot]
            if answer is not None and self._write(answer, tokens):
                self._held[slot] = None
                ended.append(slot)
                yield answer.number, answer.tokens
        if ended:
            self._state["alive"][self._indices(ended)] = 0
            self._state["position"][self._indices(ended)] = 0

    def _write(self, answer: Answer, tokens: Sequence[int]) -> bool:
        """Append tokens up to the first stop token; say whether the answer has ended."""
        for token in tokens:
            answer.tokens.append(token)
            if token in self._choice.stop_token_ids:
                return True
        return answer.remaining == 0

    def _needs(self) -> Iterator[Need]:
        for answer in self._held:
            if answer is not None:
                yield Need(answer.columns, answer.remaining)
        for _, answer in self._prefilled.waiting if self._prefilled else ():
            yield Need(answer.prompt_length, answer.remaining)
        for answer in self._queue:
            yield Need(answer.prompt_length, answer.room)

    def _indices(self, places: Sequence[int]) -> torch.Tensor:
        return torch.tensor(places, dtype=torch.int64, device=self._device)
