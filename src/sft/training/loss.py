"""Sixth hop: the loss, and the one place where labels are shifted by one.

Logits are computed only where a label is: the hidden states of every other position are taken out before the output
head sees them, by a hook on the head. Where the head is one plain matrix, the head sees none at all and the loss is
made from the hidden states in one pass (``head_loss``). Where it is more (an adapter on it, weights sharded by FSDP or
ZeRO-3, a model that does unknown things to its logits), the model's own forward runs unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sft.data.collate import NOT_TRAINED
from sft.data.types import Batch
from sft.errors import ModelError
from sft.models.attention import documents_known
from sft.training.head_loss import LogitForm, Watch, Weigh, cross_entropy

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids", "documents")


def trained_positions(batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
    """Which slots of the flattened batch predict a trained token, which token each, and what each counts.

    Each of shape (trained,); None where every token counts 1. Where the collator says where labels stand, nothing here
    waits for a device.
    """
    labels, seq = batch["labels"], batch["input_ids"].shape[1]
    slots = batch.get("trained_slots")
    if slots is None:
        slots = (labels != NOT_TRAINED).flatten().nonzero().squeeze(1)
        slots = slots[slots % labels.shape[1] != 0]  # the first of a row is predicted by nothing
    weights = batch.get("loss_weights")
    # of a stretch of a row the label after its end is known, too: then rows of labels are longer by one
    before = slots - 1 - slots // labels.shape[1] * (labels.shape[1] - seq)
    return before, labels.flatten()[slots], None if weights is None else weights.flatten()[slots]


def summed_loss(
    head: nn.Module,
    model: nn.Module,
    batch: Batch,
    form: LogitForm | None = None,
    weigh: Weigh | None = None,
    *,
    watch: Watch | None = None,
    in_head: bool = False,
) -> tuple[Tensor, Any]:
    """Cross-entropy in nats summed over the trained tokens of a batch, each times its weight, in float32.

    The caller divides by the sum of ``num_trained`` over the whole optimizer step (all slices, all processes), so
    that splitting a step differently cannot change its gradient.

    Args:
        head: the output head inside ``model`` (``get_output_embeddings()``).
        model: the model as wrapped for training.
        batch: see ``Batch``; labels are not passed on.
        form: what the model does to the output of its head, a plain linear layer; the loss is then made in one pass
            and no logits are kept. None: the model makes the logits.
        weigh: what each token counts besides its weight, told from its logits.
        watch: sees logits and targets of the trained tokens.
        in_head: with ``form``: make the loss while the model calls its head, and not afterwards. For weights that are
            whole only then.

    Returns:
        The sum (scalar) and the model's outputs. Their logits are those of the trained positions only, shape
        (trained, vocab), row by row; with ``form`` there are none, shape (0, vocab), and with ``in_head`` they are the
        sum, shape (1, 1), with what the model does to logits done to it.
    """
    positions, targets, weights = trained_positions(batch)
    inputs = {name: value for name, value in batch.items() if name in MODEL_INPUTS}
    attention = documents_known() if "documents" in batch else nullcontext()

    def make(hidden: HeadInput) -> Tensor:
        assert isinstance(head, nn.Linear)
        how = {"weights": weights, "form": form, "dtype": hidden.product_dtype, "weigh": weigh, "watch": watch}
        return cross_entropy(hidden.states, head, targets, **how)  # type: ignore[arg-type]

    made: list[Tensor] = []
    inside = made_in_head(head, lambda: make(seen[0]), made) if in_head else nullcontext()
    with only_positions(head, positions, empty=form is not None and not in_head) as seen, attention, inside:
        outputs = model(**inputs, use_cache=False)
    if not seen:
        raise ModelError(
            f"{type(model).__name__} did not call its output head ({type(head).__name__}); "
            "its loss cannot be computed on trained positions"
        )
    if in_head:
        # the gradient takes the way past the model's outputs, which may be rounded; nothing goes the other way, so
        # that who shares the weights out sees the backward pass begin
        return made[0] + 0.0 * outputs.logits.float().sum(), outputs
    if form is not None:
        (hidden,) = seen
        return make(hidden), outputs
    logits = outputs.logits.float()
    if watch is not None:
        watch(logits, targets)
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")
    if weigh is not None:
        losses = losses * weigh(logits)
    return (losses if weights is None else losses * weights).sum(), outputs


@dataclass(frozen=True)
class HeadInput:
    """What an output head was given."""

    states: Tensor
    """(kept, hidden)"""

    product_dtype: torch.dtype
    """Precision in which the head would multiply: autocast's where that is on."""


@contextmanager
def made_in_head(head: nn.Module, make: Callable[[], Tensor], made: list[Tensor]) -> Iterator[None]:
    """While open, ``head`` returns what ``make`` returns, as (1, 1), and puts it into ``made``."""
    own = vars(head).get("forward")

    def forward(*_args: Any, **_kwargs: Any) -> Tensor:
        made.append(make())
        return made[-1] + made[-1].new_zeros(1, 1)  # no view: FSDP2 warns of these

    head.forward = forward
    try:
        yield
    finally:
        del head.forward
        if own is not None:
            head.forward = own


@contextmanager
def only_positions(head: nn.Module, kept: Tensor, *, empty: bool = False) -> Iterator[list[HeadInput]]:
    """While open, ``head`` sees hidden states (kept, hidden) instead of (batch, seq, hidden), or (0, hidden).

    ``kept`` are slots of the flattened batch. The list it yields holds what was kept, once the head was called.
    """
    seen: list[HeadInput] = []

    def select(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        states = args[0].flatten(0, -2).index_select(0, kept.to(args[0].device))
        device = states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
        seen.append(HeadInput(states, dtype))
        return (states[:0] if empty else states, *args[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield seen
    finally:
        handle.remove()
