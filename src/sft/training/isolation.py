"""Proof that packed examples do not see each other: two of them, packed and apart, must give the same loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sft.data.collate import Collator
from sft.data.types import Example
from sft.training.gather import whole_while_used
from sft.training.loss import summed_loss

# Observed on float32: 0 to 2e-7 relative for isolated families, 1e-3 and more where state or attention leaks.
# bfloat16 and float16 round at 2^-8 and 2^-11 per operation.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class Isolation:
    """What the proof found."""

    proven: bool
    packed_loss: float
    """Nats summed over the trained tokens, both examples in one row."""
    separate_loss: float
    """The same, one example a row."""
    why: str


def prove_isolation(model: nn.Module, examples: Sequence[Example], pad_token_id: int) -> Isolation:
    """Compare the loss of a few examples in one packed row with their loss one by one.

    The order matters: a later document leaks from an earlier one, so each but the first is a witness.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), whole_while_used(model):
            packed = _loss(model, head, [list(examples)], Collator(pad_token_id, packed=True), device)
            apart = sum(
                _loss(model, head, [[example]], Collator(pad_token_id, packed=False), device) for example in examples
            )
    except (TypeError, ValueError, NotImplementedError) as error:
        return Isolation(False, float("nan"), float("nan"), f"the model refuses packed rows ({error})")
    finally:
        model.train(was_training)
    tolerance = TOLERANCE.get(next(model.parameters()).dtype, TOLERANCE[torch.bfloat16])
    difference = abs(packed - apart) / max(abs(apart), 1e-12)
    proven = difference <= tolerance
    relation = "equals" if proven else "differs from"
    why = (
        f"packed loss {relation} the sum of separate losses ({packed:.6f}, {apart:.6f}; "
        f"relative difference {difference:.1e}, allowed {tolerance:.0e})"
    )
    return Isolation(proven, packed, apart, why)


def _loss(
    model: nn.Module, head: nn.Module, rows: list[list[Example]], collator: Collator, device: torch.device
) -> float:
    batch = collator(rows)
    for name in ("input_ids", "labels", "position_ids", "attention_mask"):
        if name in batch:
            batch[name] = batch[name].to(device)
    loss, _ = summed_loss(head, model, batch)
    return float(loss)
