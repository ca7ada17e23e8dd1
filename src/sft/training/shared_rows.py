"""Proof that processes that share rows compute what one process computes with all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from accelerate.utils import send_to_device
from torch import nn

from sft.data.collate import Collator, Stretch
from sft.data.types import Example
from sft.errors import ModelError
from sft.models.attention import uses_documents
from sft.models.context import ContextGroup, share_rows
from sft.models.families import model_type_of
from sft.training.gather import whole_while_used
from sft.training.isolation import compare
from sft.training.loss import summed_loss


def share_proven_rows(
    model: nn.Module,
    examples: Sequence[Example],
    pad_token_id: int,
    group: ContextGroup,
    *,
    tensor: int,
    packed: bool,
) -> str:
    """Let the model share its rows with a group, once the loss of a few examples is seen to stay the same.

    A model that mixes tokens elsewhere than in attention (a state, a convolution) shows another loss.

    Args:
        tensor: processes that compute each layer together.
        packed: the examples share a row.

    Returns:
        What was seen, for people.

    Raises:
        ModelError: naming what does not fit.
    """
    kind = model_type_of(model.config)
    if not uses_documents(model):
        raise ModelError(
            f"context_parallel_size = {group.size}: this {kind} model does not attend by document (a window shorter "
            "than a row, capped attention, an adapter on attention that PyTorch does not take, or no such attention "
            "at all), and only such attention is shared between processes. Use fsdp and a shorter max_length."
        )
    rows = [list(examples)] if packed else [[example] for example in examples]
    was_training = model.training
    model.eval()
    with torch.no_grad(), whole_while_used(model):
        alone = _loss(model, rows, Collator(pad_token_id, packed=packed, by_document=True))
        share_rows(model, group, tensor=tensor)
        collator = Collator(pad_token_id, packed=packed, by_document=True, stretch=Stretch(group.rank, group.size))
        shared = _loss(model, rows, collator)
        dist.all_reduce(shared, group=group.by_device[shared.device.type])
    model.train(was_training)
    difference, tolerance = compare(model, float(shared), float(alone))
    if difference > tolerance:
        raise ModelError(
            f"context_parallel_size = {group.size}: {group.size} processes that share a row compute another loss of "
            f"this {kind} model than one ({float(shared):.6f}, {float(alone):.6f}; relative difference "
            f"{difference:.1e}, allowed {tolerance:.0e}): it mixes tokens elsewhere than in attention. Leave it out."
        )
    return (
        f"the loss of rows in {group.size} stretches equals that of whole rows ({float(shared):.6f}, "
        f"{float(alone):.6f}; relative difference {difference:.1e}, allowed {tolerance:.0e})"
    )


def _loss(model: nn.Module, rows: list[list[Example]], collator: Collator) -> torch.Tensor:
    batch = send_to_device(collator(rows), next(model.parameters()).device)
    loss, _ = summed_loss(model.get_output_embeddings(), model, batch)  # type: ignore[operator]
    return loss.detach().double()
