"""Generation with a model that is already in this process, also one that is being trained.

The model is handed in and left as it was found: training mode of every module, random state, configs. Many prompts are
answered in slots (``slots``), which is quicker; a few, or those for a model that cannot (``slot_check``), in batches by
``model.generate``. Either way an answer does not depend on its neighbours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch

from sft.generation.batches import complete_in_batches, generation_arguments, read_completion
from sft.generation.engine import Completion, Progress, Prompt, Sampling
from sft.generation.prompts import answer_room, encode_prompt
from sft.generation.slot_check import examine, repetition_penalty
from sft.generation.slot_layout import Limits, Request
from sft.generation.slots import SlotDecoder
from sft.generation.token_choice import TokenChoice

MAX_BATCH_TOKENS = 16_384
"""Prompt and answer tokens held at once, padding included. About 2 GiB of KV cache for an 8B model in bfloat16."""

MAX_ROWS = 64
"""Prompts answered at once."""

FEW = 8
"""Fewer prompts than this go to ``model.generate``: slots would gain little, and cost a check."""

logger = logging.getLogger(__name__)

_told: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""Why a model does not answer in slots, where that was said already."""


@dataclass(frozen=True)
class InProcessEngine:
    """A live model behind the engine contract."""

    name: ClassVar[str] = "in_process"

    model: Any
    """A transformers causal language model, or a PeftModel around one."""

    tokenizer: Any

    max_batch_tokens: int = MAX_BATCH_TOKENS
    max_rows: int = MAX_ROWS

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, on_progress: Progress | None = None
    ) -> list[Completion]:
        """Answer every prompt, in the order asked."""
        return complete(
            self.model,
            self.tokenizer,
            prompts,
            sampling,
            max_batch_tokens=self.max_batch_tokens,
            max_rows=self.max_rows,
            on_progress=on_progress,
        )


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    stop_token_ids: Sequence[int] = (),
    max_batch_tokens: int = MAX_BATCH_TOKENS,
    on_progress: Progress | None = None,
) -> list[str]:
    """The answers' texts, in the order asked; greedy unless ``temperature`` is set."""
    sampling = Sampling(
        max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, stop_token_ids=tuple(stop_token_ids)
    )
    completions = complete(
        model, tokenizer, prompts, sampling, max_batch_tokens=max_batch_tokens, on_progress=on_progress
    )
    return [completion.text for completion in completions]


def complete(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    max_batch_tokens: int = MAX_BATCH_TOKENS,
    max_rows: int = MAX_ROWS,
    on_progress: Progress | None = None,
) -> list[Completion]:
    """Answer every prompt with ``model``, the longest prompts first, so that memory runs out at once or never.

    Args:
        model: a transformers causal language model, or a PeftModel around one.
        tokenizer: the model's.
        prompts: rendered texts, or token ids.
        sampling: how tokens are chosen, and when an answer ends.
        max_batch_tokens: bound on rows x columns of the cache. A prompt that exceeds it alone is answered alone.
        max_rows: prompts answered at once.
        on_progress: told of answers that are done.

    Raises:
        DataError: a prompt is empty, or fills the model's context so that no room is left for an answer.
    """
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    context = context_of(model)
    requests = [
        Request(ids, answer_room(context, ids, sampling.max_new_tokens, number))
        for number, ids in enumerate(encoded, 1)
    ]
    limits = Limits(max_rows, max_batch_tokens)
    answers: dict[int, Completion] = {}
    with undisturbed(model, seed=sampling.seed):
        in_slots = _slot_decoder(model, tokenizer, encoded, sampling, limits) if len(requests) >= FEW else None
        if in_slots is None:
            found = complete_in_batches(model, tokenizer, requests, sampling, limits)
        else:
            found = _complete_in_slots(in_slots, tokenizer, requests)
        for done in found:
            answers |= done
            if on_progress is not None:
                on_progress(len(answers), len(prompts))
    return [answers[number] for number in range(len(prompts))]


def _slot_decoder(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], sampling: Sampling, limits: Limits
) -> SlotDecoder | None:
    """What answers in slots, or None, with a reason once said, where the model cannot."""
    verdict = examine(model, tokenizer, prompts, sampling)
    if verdict.reason is not None:
        if _told.get(model) != verdict.reason:
            _told[model] = verdict.reason
            logger.warning(
                "%s answers in batches by model.generate, not in slots, which are quicker: %s.",
                type(model).__name__,
                verdict.reason,
            )
        return None
    arguments = generation_arguments(model, tokenizer, sampling, sampling.max_new_tokens)
    choice = TokenChoice(sampling, tuple(arguments["eos_token_id"] or ()), repetition_penalty(model))
    return SlotDecoder(model, verdict.template, choice, limits=limits, pad_token_id=arguments["pad_token_id"])


def _complete_in_slots(
    decoder: SlotDecoder, tokenizer: Any, requests: Sequence[Request]
) -> Iterator[dict[int, Completion]]:
    for number, tokens in decoder.answer(requests):
        yield {number: read_completion(tokenizer, tokens, decoder.stop_token_ids)}


def context_of(model: Any) -> int | None:
    """Most tokens of prompt and answer together, where the model has a bound."""
    context = getattr(model.config, "max_position_embeddings", None)
    return None if context is None else int(context)


@contextmanager
def undisturbed(model: Any, *, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradients and a random state of its own; afterwards everything is as it was.

    Every module gets its own training flag back (some may have been in evaluation mode on purpose), and the random
    state of the CPU and of the model's device is restored, so that training goes on bit for bit as without the pause.
    """
    training = [(module, module.training) for module in model.modules()]
    with random_state_kept(model), torch.no_grad():
        torch.manual_seed(seed)
        model.eval()
        try:
            yield
        finally:
            for module, was_training in training:
                module.training = was_training


@contextmanager
def random_state_kept(model: Any) -> Iterator[None]:
    """Afterwards the random numbers of the CPU and of every device with weights of the model go on as before."""
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type not in ("cpu", "meta")}
    if any(device.type == "mps" for device in devices):  # has one generator, and no fork_rng
        state = torch.mps.get_rng_state()
        try:
            with torch.random.fork_rng(devices=[]):
                yield
        finally:
            torch.mps.set_rng_state(state)
        return
    kind = next(iter(devices)).type if devices else "cuda"
    with torch.random.fork_rng(devices=list(devices), device_type=kind):
        yield
