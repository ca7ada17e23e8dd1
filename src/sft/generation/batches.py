"""Answers by ``model.generate``: prompts of like length share a batch, padded on the left under an attention mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from sft.generation.engine import Completion, Sampling
from sft.generation.prompts import decode
from sft.generation.slot_layout import Limits, Request
from sft.generation.stop_tokens import as_token_ids, own_stop_tokens, pad_token


def complete_in_batches(
    model: Any, tokenizer: Any, requests: Sequence[Request], sampling: Sampling, limits: Limits
) -> Iterator[dict[int, Completion]]:
    """Answer requests batch by batch; completions by the requests' numbers."""
    for batch in plan_batches(requests, limits):
        rows = [requests[number].ids for number in batch]
        yield dict(zip(batch, _complete_batch(model, tokenizer, rows, sampling, requests[batch[0]].room), strict=True))


def plan_batches(requests: Sequence[Request], limits: Limits) -> list[list[int]]:
    """Numbers of the requests that are answered together, longest first.

    The requests of a batch have the same room, and rows x (longest prompt + room) stays within the limit of tokens; a
    prompt that exceeds it alone is a batch of its own.

    Returns:
        Every number once; a function of the arguments only.
    """
    batches: list[list[int]] = []
    for number in sorted(range(len(requests)), key=lambda number: (-len(requests[number].ids), number)):
        batch = batches[-1] if batches else []
        if batch and requests[batch[0]].room == requests[number].room and len(batch) < limits.slots:
            row_tokens = len(requests[batch[0]].ids) + requests[number].room
            if (len(batch) + 1) * row_tokens <= limits.tokens:
                batch.append(number)
                continue
        batches.append([number])
    return batches


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
