"""Last step before a merge counts: does the merged model say what the adapter said?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sft.errors import ExportError

MAX_PROMPT_TOKENS = 256
"""Tokens compared per prompt. Bounds the memory of the kept logits: 16 prompts of a 150k vocabulary take 2.5 GB."""

RELATIVE_BOUNDS = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest logit difference allowed, as a share of the largest logit.

float32: the two ways of adding the adapter differ by the order of summation; seen 1e-6 to 2e-6 on small models.
float16 and bfloat16: every weight is rounded by up to 2^-11 and 2^-9; seen 1e-3 and 1e-2."""

FLOAT32_BOUND = 1e-4
"""The float32 bound where the logits are small."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two models' logits are from each other on the same prompts."""

    max_logit_difference: float
    """Largest absolute difference of any logit at any position."""

    top1_agreement: float
    """Share of positions at which both find the same token likeliest."""

    largest_logit: float
    """Largest absolute logit of the reference."""

    num_prompts: int
    num_positions: int


def encode_prompts(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of user messages as the model's chat template asks them; plain text where there is no template."""
    encoded = []
    for prompt in prompts:
        if tokenizer.chat_template:
            prompt = tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
        ids = tokenizer.encode(prompt, add_special_tokens=not tokenizer.chat_template)
        if ids:
            encoded.append([int(token) for token in ids[:MAX_PROMPT_TOKENS]])
    return encoded


@torch.no_grad()
def compute_logits(model: Any, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
    """Logits at every position of every prompt, each float32 (tokens, vocabulary), one prompt at a time."""
    model.eval()
    logits = []
    for ids in prompts:
        batch = torch.tensor([ids], device=model.device)
        output = model(input_ids=batch, attention_mask=torch.ones_like(batch), use_cache=False)
        logits.append(output.logits[0].float().cpu())
    return logits


def compare_logits(reference: Sequence[Tensor], other: Sequence[Tensor]) -> Agreement:
    """Compare two results of ``compute_logits``. A logit that is not a number makes the difference infinite."""
    differences, same, largest, positions = [0.0], 0, 0.0, 0
    for expected, found in zip(reference, other, strict=True):
        difference = (expected - found).abs().max().item()
        differences.append(difference if difference == difference else float("inf"))
        same += int((expected.argmax(-1) == found.argmax(-1)).sum())
        largest = max(largest, expected.abs().max().item())
        positions += len(expected)
    return Agreement(
        max_logit_difference=max(differences),
        top1_agreement=same / positions if positions else 0.0,
        largest_logit=largest,
        num_prompts=len(reference),
        num_positions=positions,
    )


def allowed_difference(dtype: torch.dtype, largest_logit: float) -> float:
    """The bound on the logit difference of a model saved in ``dtype``."""
    bound = RELATIVE_BOUNDS[dtype] * largest_logit
    return max(bound, FLOAT32_BOUND)


def check_agreement(
    reference: Sequence[Tensor], found: Sequence[Tensor], dtype: torch.dtype, *, max_difference: float | None
) -> tuple[Agreement, float]:
    """How far the merged model's logits are from the adapter's, and the bound they were held to.

    Raises:
        ExportError: further than the bound.
    """
    agreement = compare_logits(reference, found)
    bound = allowed_difference(dtype, agreement.largest_logit) if max_difference is None else max_difference
    if agreement.max_logit_difference > bound:
        raise ExportError(
            f"The merged model does not equal the adapter: on {agreement.num_prompts} prompts the largest logit "
            f"difference is {agreement.max_logit_difference:.3g}, allowed is {bound:.3g} for weights in "
            f"{str(dtype).removeprefix('torch.')} (top-1 agreement {agreement.top1_agreement:.1%}). Nothing was saved. "
            "Merge with --dtype float32 to keep more digits, or allow more with --max_difference."
        )
    return agreement, bound
