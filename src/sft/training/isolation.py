"""Proof that packed examples do not see each other: two of them, packed and apart, must give the same loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate.utils import send_to_device
from torch import nn

from sft.data.collate import Collator
from sft.data.types import Example
from sft.models.attention import uses_documents
from sft.training.gather import whole_while_used
from sft.training.loss import summed_loss

# Observed on float32: 0 to 2e-7 relative for isolated families, 1e-3 and more where state or attention leaks.
# bfloat16 and float16 round at 2^-8 and 2^-11 per operation.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class Isolation:
    """What the proof found."""

    proven: bool
    joint_loss: float
    """Nats summed over the trained tokens, all examples in one batch."""
    separate_loss: float
    """The same, one example after the other."""
    why: str


def prove_isolation(
    model: nn.Module, examples: Sequence[Example], pad_token_id: int, *, packed: bool = True
) -> Isolation:
    """Compare the loss of a few examples in one batch with their loss one by one under the library's attention.

    The order matters: a later document leaks from an earlier one, so each but the first is a witness.

    Args:
        packed: they share a row; else each has a row of its own, filled up to the longest.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), whole_while_used(model):
            rows = [list(examples)] if packed else [[example] for example in examples]
            collator = Collator(pad_token_id, packed=packed, by_document=uses_documents(model))
            together = _loss(model, head, rows, collator, device)
            apart = sum(
                _loss(model, head, [[example]], Collator(pad_token_id, packed=False), device) for example in examples
            )
    except (TypeError, ValueError, NotImplementedError) as error:
        return Isolation(False, float("nan"), float("nan"), f"the model refuses such a batch ({error})")
    finally:
        model.train(was_training)
    difference, tolerance = compare(model, together, apart)
    proven = difference <= tolerance
    relation = "equals" if proven else "differs from"
    why = (
        f"{'packed' if packed else 'padded'} loss {relation} the sum of separate losses ({together:.6f}, {apart:.6f}; "
        f"relative difference {difference:.1e}, allowed {tolerance:.0e})"
    )
    return Isolation(proven, together, apart, why)


def compare(model: nn.Module, loss: float, expected: float) -> tuple[float, float]:
    """How far apart two losses are, relative to the expected one, and how far they may be in the model's precision."""
    tolerance = TOLERANCE.get(next(model.parameters()).dtype, TOLERANCE[torch.bfloat16])
    return abs(loss - expected) / max(abs(expected), 1e-12), tolerance


def _loss(
    model: nn.Module, head: nn.Module, rows: list[list[Example]], collator: Collator, device: torch.device
) -> float:
    batch = collator(rows)
    loss, _ = summed_loss(head, model, send_to_device(batch, device))
    return float(loss)
