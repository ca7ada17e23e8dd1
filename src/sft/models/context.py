"""Context parallelism: processes that share every row, each with a stretch of its tokens.

All layers but attention look at one token at a time. For attention the processes exchange: each gives away its stretch
of most heads and gets the whole row for a few, attends to each document alone as one process would, and gives the
results back. So packed documents stay apart, and heads are shared out evenly however long the documents are. (The
exchange is that of DeepSpeed-Ulysses, arXiv 2309.14509.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sft.data.documents import Documents
from sft.errors import ModelError
from sft.models.attention import attend, mask_unless_documents

SHARED_NAME = "sft_documents_shared"


@dataclass(frozen=True)
class ContextGroup:
    """The processes that share a row with this one."""

    rank: int
    """Which stretch is this process's own."""
    size: int
    by_device: Mapping[str, Any]
    """Device type -> the process group that carries its tensors."""

    def exchange(self, states: Tensor) -> Tensor:
        """(size, ...): entry i goes to process i; what comes back is by the process it came from. Differentiable."""
        exchanged: Tensor = _Exchange.apply(states, self.by_device[states.device.type])  # type: ignore[no-untyped-call]
        return exchanged


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, group: Any) -> Tensor:
        ctx.group = group
        received = torch.empty_like(states, memory_format=torch.contiguous_format)
        dist.all_to_all_single(received, states.contiguous(), group=group)
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        sent = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        dist.all_to_all_single(sent, gradient.contiguous(), group=ctx.group)
        return sent, None


def context_groups(*, processes: int, rank: int, tensor: int, context: int) -> ContextGroup:
    """Make the groups; every process calls it. Those that share a row are ``tensor`` ranks apart."""
    own: dict[str, Any] = {}
    kinds = {"cpu": "gloo"}  # the model is asked and proven on the CPU, too, before it is moved
    if torch.accelerator.is_available():
        kinds[str(torch.accelerator.current_accelerator()).partition(":")[0]] = ""
    for start in range(0, processes, tensor * context):
        for first in range(start, start + tensor):
            ranks = list(range(first, start + tensor * context, tensor))
            made = {device: dist.new_group(ranks, backend=backend or None) for device, backend in kinds.items()}
            if rank in ranks:
                own = made
    return ContextGroup(rank=(rank // tensor) % context, size=context, by_device=own)


def attend_shared(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    documents: Documents | None = None,
    *,
    group: ContextGroup,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each document, of rows that the group shares.

    Args:
        query: (batch, heads, stretch, head size); ``key`` and ``value`` may have fewer heads.
        documents: of the whole rows; None: the rows are this process's alone (generation), and the library attends.

    Returns:
        (batch, stretch, heads, head size), and None for the weights, which are not kept.
    """
    if documents is None:
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return result
    copies = _copies(query.shape[1], key.shape[1], group.size)
    q, k, v = (_whole_rows(states, group) for states in (query, _copied(key, copies), _copied(value, copies)))
    found, _ = attend(module, q, k, v, None, dropout=dropout, scaling=scaling, documents=documents, **kwargs)
    batch, seq, heads, width = found.shape
    pieces = found.view(batch, group.size, seq // group.size, heads, width).transpose(0, 1)
    returned = group.exchange(pieces)  # (from which heads, batch, stretch, heads, width)
    return returned.permute(1, 2, 0, 3, 4).flatten(2, 3), None


def _copies(heads: int, key_heads: int, size: int) -> int:
    """How often each head of keys is given, so that every process gets those that its heads of queries look at."""
    return next(copies for copies in range(1, heads // key_heads + 1) if _fits(heads, key_heads, copies, size))


def _fits(heads: int, key_heads: int, copies: int, size: int) -> bool:
    return (heads // key_heads) % copies == 0 and (key_heads * copies) % size == 0


def _copied(states: Tensor, copies: int) -> Tensor:
    return states if copies == 1 else states.repeat_interleave(copies, dim=1)


def _whole_rows(states: Tensor, group: ContextGroup) -> Tensor:
    """(batch, heads, stretch, width) -> (batch, heads / size, seq, width)."""
    batch, heads, stretch, width = states.shape
    pieces = states.view(batch, group.size, heads // group.size, stretch, width).transpose(0, 1)
    return group.exchange(pieces).permute(1, 2, 0, 3, 4).flatten(2, 3)


def share_rows(model: PreTrainedModel, group: ContextGroup, *, tensor: int = 1) -> None:
    """Let a model that attends by document do so with rows that a group shares.

    Args:
        tensor: processes that have the heads shared out already.

    Raises:
        ModelError: its heads cannot be shared out evenly.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = base.config.get_text_config()
    heads = config.num_attention_heads
    if heads % (group.size * tensor):
        raise ModelError(
            f"context_parallel_size = {group.size}: the {heads} attention heads of this {config.model_type} model "
            f"cannot be shared out evenly over {group.size * tensor} processes. Choose a divisor of {heads // tensor}."
        )
    attention = partial(attend_shared, group=group)
    attention.context_size = group.size  # type: ignore[attr-defined]
    AttentionInterface.register(SHARED_NAME, attention)
    AttentionMaskInterface.register(SHARED_NAME, mask_unless_documents)
    base.set_attn_implementation(SHARED_NAME)


def shared_by(model: Any) -> int:
    """How many processes share the rows of a model: read off the attention it calls."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else getattr(model, "module", model)
    config = getattr(base, "config", None)
    name = None if config is None else getattr(config.get_text_config(), "_attn_implementation", None)
    if name != SHARED_NAME:
        return 1
    return int(AttentionInterface()[SHARED_NAME].context_size)
