"""Generation with a model that is already in this process, also one that is being trained.

The model is handed in and left as it was found: training mode of every module, random state, configs. Prompts of like
length share a batch, padded on the left under an attention mask; ``model.generate`` numbers the positions from that
mask, so an answer does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from sft.generation.engine import Completion, Progress, Prompt, Sampling
from sft.generation.prompts import answer_room, decode, encode_prompt
from sft.generation.stop_tokens import as_token_ids, own_stop_tokens, pad_token

MAX_BATCH_TOKENS = 16_384
"""Prompt and answer tokens in one batch, padding included. About 2 GiB of KV cache for an 8B model in bfloat16."""


@dataclass(frozen=True)
class InProcessEngine:
    """A live model behind the engine contract."""

    name: ClassVar[str] = "in_process"

    model: Any
    """A transformers causal language model, or a PeftModel around one."""

    tokenizer: Any

    max_batch_tokens: int = MAX_BATCH_TOKENS

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
    on_progress: Progress | None = None,
) -> list[Completion]:
    """Answer every prompt with ``model``, the longest prompts first, so that memory runs out at once or never.

    Raises:
        DataError: a prompt is empty, or fills the model's context so that no room is left for an answer.
    """
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    context = context_of(model)
    rooms = [answer_room(context, ids, sampling.max_new_tokens, number) for number, ids in enumerate(encoded, 1)]
    answers: list[Completion] = [Completion("", 0, "stop")] * len(prompts)
    done = 0
    with undisturbed(model, seed=sampling.seed):
        for batch in plan_batches([len(ids) for ids in encoded], rooms, max_batch_tokens):
            completions = _complete_batch(
                model, tokenizer, [encoded[position] for position in batch], sampling, rooms[batch[0]]
            )
            for position, completion in zip(batch, completions, strict=True):
                answers[position] = completion
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(prompts))
    return answers


def context_of(model: Any) -> int | None:
    """Most tokens of prompt and answer together, where the model has a bound."""
    context = getattr(model.config, "max_position_embeddings", None)
    return None if context is None else int(context)


def plan_batches(lengths: Sequence[int], rooms: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """Positions of the prompts that are answered together, longest first.

    Args:
        lengths: tokens per prompt.
        rooms: most answer tokens per prompt; prompts of one batch have the same.
        max_batch_tokens: bound on rows x (longest prompt + room). A prompt that exceeds it alone is a batch of its own.

    Returns:
        Every position once; a function of the arguments only.
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda position: (-lengths[position], position)):
        batch = batches[-1] if batches else []
        if batch and rooms[batch[0]] == rooms[position]:
            row_tokens = lengths[batch[0]] + rooms[position]
            if (len(batch) + 1) * row_tokens <= max_batch_tokens:
                batch.append(position)
                continue
        batches.append([position])
    return batches


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


def generation_arguments(model: Any, tokenizer: Any, sampling: Sampling, max_new_tokens: int) -> dict[str, Any]:
    """``sampling`` in the words of ``model.generate``."""
    stops = as_token_ids((*own_stop_tokens(model, tokenizer), *sampling.stop_token_ids))
    arguments: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "min_new_tokens": min(sampling.min_new_tokens, max_new_tokens) or None,
        "num_beams": 1,
        "use_cache": True,
        "eos_token_id": list(stops) or None,
        "pad_token_id": pad_token(tokenizer, stops),
    }
    if sampling.temperature == 0:
        return arguments | {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return arguments | {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
    }


def read_completion(tokenizer: Any, ids: Sequence[int], stop_token_ids: Sequence[int]) -> Completion:
    """The completion in one row of new tokens, which may go on with padding after its stop token."""
    stops = set(stop_token_ids)
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    if end is None:
        return Completion(decode(tokenizer, ids), len(ids), "length")
    return Completion(decode(tokenizer, ids[:end]), end + 1, "stop")


def left_padded(rows: Sequence[Sequence[int]], pad_token_id: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """``input_ids`` and ``attention_mask``, int64 (batch, longest row), padding before each row."""
    width = max(len(row) for row in rows)
    input_ids = torch.full((len(rows), width), pad_token_id, dtype=torch.int64)
    attention_mask = torch.zeros_like(input_ids)
    for place, row in enumerate(rows):
        input_ids[place, width - len(row) :] = torch.tensor(row, dtype=torch.int64)
        attention_mask[place, width - len(row) :] = 1
    return input_ids.to(device), attention_mask.to(device)


def _complete_batch(
    model: Any, tokenizer: Any, rows: Sequence[Sequence[int]], sampling: Sampling, max_new_tokens: int
) -> list[Completion]:
    arguments = generation_arguments(model, tokenizer, sampling, max_new_tokens)
    input_ids, attention_mask = left_padded(rows, arguments["pad_token_id"], model.device)
    output = model.generate(input_ids=input_ids, attention_mask=attention_mask, **arguments)
    stops = arguments["eos_token_id"] or []
    return [read_completion(tokenizer, row, stops) for row in output[:, input_ids.shape[1] :].tolist()]
