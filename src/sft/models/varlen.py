"""Attention kernels for documents that lie one behind the other: PyTorch's own, or flash-attn's where it is installed.

Both run on NVIDIA GPUs from Ampere on, in half precision. They take all tokens of a batch and where documents begin, so
that nothing is moved or filled up.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)
LARGEST_HEAD = 256
FIRST_CAPABILITY = (8, 0)

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, int, float | None, int | None], Tensor]
"""(queries (tokens, heads, size), keys, values, bounds (documents + 1,), longest, scale, window) -> like queries."""


def takes(device: torch.device, dtype: torch.dtype, head_size: int, value_size: int) -> bool:
    """Whether such a kernel can do it here."""
    if device.type != "cuda" or dtype not in HALF or head_size != value_size:
        return False
    if head_size > LARGEST_HEAD or head_size % 8 or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) >= FIRST_CAPABILITY and find_kernel() is not None


@lru_cache(maxsize=1)
def find_kernel() -> Kernel | None:
    """PyTorch's (from 2.11 on), else flash-attn's, else none."""
    if importlib.util.find_spec("torch.nn.attention.varlen") is not None:
        from torch.nn.attention.varlen import varlen_attn

        if {"scale", "window_size"} <= inspect.signature(varlen_attn).parameters.keys():
            return by_pytorch(varlen_attn)
    if importlib.util.find_spec("flash_attn") is not None:
        from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]

        return by_flash_attn(flash_attn_varlen_func)
    return None


def by_pytorch(varlen_attn: Any) -> Kernel:
    """``torch.nn.attention.varlen.varlen_attn``; where it does not share heads of keys itself, they are repeated."""
    shares_heads = "enable_gqa" in inspect.signature(varlen_attn).parameters

    def attend(
        query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scale: float | None, window: int | None
    ) -> Tensor:
        repeats = query.shape[1] // key.shape[1]
        more: dict[str, Any] = {}
        if repeats > 1 and shares_heads:
            more["enable_gqa"] = True
        elif repeats > 1:
            key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
        found: Tensor = varlen_attn(
            query, key, value, bounds, bounds, longest, longest, scale=scale, window_size=_span(window), **more
        )
        return found

    return attend


def by_flash_attn(flash_attn_varlen_func: Any) -> Kernel:
    """``flash_attn.flash_attn_varlen_func``."""

    def attend(
        query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scale: float | None, window: int | None
    ) -> Tensor:
        more = {"softmax_scale": scale, "causal": True, "window_size": _span(window)}
        found: Tensor = flash_attn_varlen_func(query, key, value, bounds, bounds, longest, longest, **more)
        return found

    return attend


def _span(window: int | None) -> tuple[int, int]:
    """How many tokens before and behind its own a token looks at; -1: all. It looks at ``window`` with its own."""
    return (-1 if window is None else window - 1, 0)
