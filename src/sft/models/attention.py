"""Attention over rows of several documents: each is attended to alone, and no mask over a row is ever made.

transformers calls attention through an interface, and this is one more implementation of it. It takes the documents of
a batch out of their rows, puts those of about the same length together, and asks PyTorch for plain causal attention:
what a document is filled up with stands behind it, where causal attention never looks. On a CPU that is about ten
times cheaper than a mask over rows. On a GPU there are kernels that take documents as they lie (``varlen``). Calls that
name no documents (generation) go to the library's own ``sdpa``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from sft.data.documents import Documents
from sft.models import varlen

NAME = "sft_documents"

_documents_known: ContextVar[bool] = ContextVar("documents_known", default=False)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    documents: Documents | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each document.

    Args:
        query: (batch, heads, seq, head size); ``key`` and ``value`` may have fewer heads.
        documents: of the batch; None: the library's own attention, with its mask.

    Returns:
        (batch, seq, heads, head size), and None for the weights, which are not kept.
    """
    if documents is None or attention_mask is not None:
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return result
    window = _window(module, kwargs)
    dtype = _product_dtype(query)
    if not dropout and varlen.takes(query.device, dtype, query.shape[-1], value.shape[-1]):
        return _attend_where_they_lie(query.to(dtype), key.to(dtype), value.to(dtype), scaling, window, documents), None
    return _in_buckets(query, key, value, dropout, scaling, window, documents), None


def _window(module: torch.nn.Module, kwargs: dict[str, Any]) -> int | None:
    """How many tokens, its own included, a token of this layer looks back at; None: all.

    Raises:
        NotImplementedError: the model has windows and does not say which of its layers do.
    """
    if "sliding_window" not in kwargs and getattr(getattr(module, "config", None), "sliding_window", None) is not None:
        raise NotImplementedError(f"{type(module).__name__} does not tell its window of attention")
    window: int | None = kwargs.get("sliding_window")
    return window


def _product_dtype(states: Tensor) -> torch.dtype:
    device = states.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype


def _attend_where_they_lie(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None, documents: Documents
) -> Tensor:
    """By a kernel that is told where documents begin. Padding is in short documents of its own."""
    kernel = varlen.find_kernel()
    assert kernel is not None
    batch, heads, seq, _ = query.shape
    query, key, value = (_by_slot(states).contiguous() for states in (query, key, value))
    found = kernel(query, key, value, documents["bounds"], documents["longest"], scale, window)
    return found.view(batch, seq, heads, -1)


def _attend_in_buckets(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float,
    scale: float | None,
    window: int | None,
    documents: Documents,
) -> Tensor:
    """By plain attention over documents of about the same length."""
    batch, heads, seq, _ = query.shape
    everywhere = torch.cat([slots.flatten() for slots in documents["slots"]])
    to_buckets = (everywhere, documents["filled_up"])
    to_rows = (documents["places"], documents["padding"])
    moved = [_move(_by_slot(states), *to_buckets, *to_rows) for states in (query, key, value)]
    sizes = [slots.numel() for slots in documents["slots"]]  # split, whose gradient is written once, not added up
    results = []
    for slots, *parts in zip(documents["slots"], *(torch.split(states, sizes) for states in moved), strict=True):
        q, k, v = (part.view(*slots.shape, *part.shape[1:]).transpose(1, 2) for part in parts)
        results.append(_attend_alike(q, k, v, dropout, scale, window).transpose(1, 2).flatten(0, 1))
    return _move(torch.cat(results), *to_rows, *to_buckets).view(batch, seq, heads, -1)


_in_buckets = _attend_in_buckets


def compile_around() -> None:
    """Keep attention by buckets out of what torch.compile compiles: each number of buckets would be compiled anew."""
    global _in_buckets
    _in_buckets = torch.compiler.disable(_attend_in_buckets)  # type: ignore[no-untyped-call]  # imports the compiler


def _attend_alike(
    query: Tensor, key: Tensor, value: Tensor, dropout: float, scale: float | None, window: int | None
) -> Tensor:
    """Causal attention over documents of one length, (documents, heads, size, head size)."""
    size = query.shape[2]
    band = None
    if window is not None and window < size:
        at = torch.arange(size, device=query.device)
        back = at[:, None] - at
        band = (back >= 0) & (back < window)
    asked = dtype = _product_dtype(query)
    if query.device.type == "cpu":  # where the gradient of bfloat16 attention takes twice the time of float32's
        dtype = torch.promote_types(dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        found = torch.nn.functional.scaled_dot_product_attention(
            query.to(dtype),
            key.to(dtype),
            value.to(dtype),
            attn_mask=band,
            dropout_p=dropout,
            scale=scale,
            is_causal=band is None,
            enable_gqa=key.shape[1] != query.shape[1],
        )
    return found.to(asked)


def _by_slot(states: Tensor) -> Tensor:
    """(batch, heads, seq, size) -> (batch * seq, heads, size)."""
    return states.transpose(1, 2).flatten(0, 1)


def _move(states: Tensor, there: Tensor, gaps: Tensor, back: Tensor, unused: Tensor) -> Tensor:
    """``states[there]``, 0 in its ``gaps``; its gradient is ``gradient[back]``, 0 where nothing came from."""
    moved: Tensor = _Moved.apply(states, there, gaps, back, unused)  # type: ignore[no-untyped-call]
    return moved


class _Moved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, there: Tensor, gaps: Tensor, back: Tensor, unused: Tensor) -> Tensor:
        ctx.save_for_backward(back, unused)
        return states[there].index_fill_(0, gaps, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        back, unused = ctx.saved_tensors
        return gradient[back].index_fill_(0, unused, 0), None, None, None, None


def mask_unless_documents(*args: Any, **kwargs: Any) -> Tensor | None:
    """The library's mask; none while the documents are known, for then there is nothing to hide."""
    return None if _documents_known.get() else sdpa_mask(*args, **kwargs)


@contextmanager
def documents_known() -> Iterator[None]:
    """While open, models with this attention make no masks; every call must name its documents."""
    token = _documents_known.set(True)
    kept = {name: make for name, make in _mask_makers().items() if make is mask_unless_documents}
    for name in kept:  # or the library would first ask the device whether rows are packed, and wait for the answer
        del _mask_makers()[name]
    try:
        yield
    finally:
        _mask_makers().update(kept)
        _documents_known.reset(token)


def _mask_makers() -> dict[str, Any]:
    """By name of attention; for a name that is not there, transformers makes no mask."""
    makers: dict[str, Any] = getattr(AttentionMaskInterface, "_global_mapping", {})
    return makers


def attend_by_document(model: PreTrainedModel, *, longest: int) -> bool:
    """Give a model this attention where it would mean the same; whether it has it now.

    Args:
        longest: most tokens in one document. Attention in chunks that are shorter is left to the library.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = base.config.get_text_config()
    if not getattr(base, "_supports_attention_backend", False):
        return False
    chunk = getattr(config, "attention_chunk_size", None)
    limited = chunk is not None and chunk < longest
    if config._attn_implementation != "sdpa" or limited or getattr(config, "attn_logit_softcapping", None):
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, mask_unless_documents)
    base.set_attn_implementation(NAME)
    return True


def uses_documents(model: Any) -> bool:
    """Whether a model has this attention."""
    return bool(getattr(model.config.get_text_config(), "_attn_implementation", None) == NAME)
