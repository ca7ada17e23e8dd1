"""Sixth hop: the loss, and the one place where labels are shifted by one.

Logits are computed only where a label is: the hidden states of every other position are taken out before the output
head sees them, by a hook on the head, so the model's own forward (soft-capping and all) runs unchanged under DDP,
FSDP, DeepSpeed and PEFT.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sft.data.collate import NOT_TRAINED
from sft.data.types import Batch
from sft.errors import ModelError


def shift_labels(labels: Tensor) -> Tensor:
    """Labels (batch, seq) -> what each position must predict (batch, seq): the next token's label."""
    return nn.functional.pad(labels[:, 1:], (0, 1), value=NOT_TRAINED)


def summed_loss(head: nn.Module, model: nn.Module, batch: Batch) -> tuple[Tensor, Any]:
    """Cross-entropy in nats summed over the trained tokens of a batch, each times its weight, in float32.

    The caller divides by the sum of ``num_trained`` over the whole optimizer step (all slices, all processes), so
    that splitting a step differently cannot change its gradient.

    Args:
        head: the output head inside ``model`` (``get_output_embeddings()``).
        model: the model as wrapped for training.
        batch: see ``Batch``; labels are not passed on.

    Returns:
        The sum (scalar) and the model's outputs, whose logits are those of the trained positions only,
        shape (trained, vocab), row by row.
    """
    targets = shift_labels(batch["labels"])
    trained = targets != NOT_TRAINED
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids") if name in batch}
    with only_positions(head, trained) as reached:
        outputs = model(**inputs, use_cache=False)
    if not reached:
        raise ModelError(
            f"{type(model).__name__} did not call its output head ({type(head).__name__}); "
            "its loss cannot be computed on trained positions"
        )
    losses = nn.functional.cross_entropy(outputs.logits.float(), targets[trained], reduction="none")
    weights = batch.get("loss_weights")
    if weights is not None:
        losses = losses * nn.functional.pad(weights[:, 1:], (0, 1))[trained]
    return losses.sum(), outputs


@contextmanager
def only_positions(head: nn.Module, kept: Tensor) -> Iterator[list[bool]]:
    """While open, ``head`` sees hidden states (kept, hidden) instead of (batch, seq, hidden).

    ``kept`` is a boolean (batch, seq). The list it yields is non-empty once the head was called.
    """
    reached: list[bool] = []

    def select(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        reached.append(True)
        hidden = args[0]
        return (hidden[kept.to(hidden.device)], *args[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield reached
    finally:
        handle.remove()
