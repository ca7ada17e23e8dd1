"""Rotary position embedding in plain torch, under the name and with the arguments of vLLM's kernel."""

from __future__ import annotations

import torch


def rotary_embedding(
    positions: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor | None,
    head_size: int,
    cos_sin_cache: torch.Tensor,
    is_neox: bool,
) -> None:
    """Rotate ``query`` and ``key`` in place (https://arxiv.org/abs/2104.09864).

    Args:
        positions: (tokens,).
        query: (tokens, heads x head_size).
        key: (tokens, kv heads x head_size), or None.
        head_size: numbers per head.
        cos_sin_cache: (longest position, rotated numbers per head): cosines, then sines.
        is_neox: pairs are the two halves of a head, not neighbours.
    """
    cos, sin = cos_sin_cache[positions.flatten()].chunk(2, dim=-1)
    for rows in (query, key):
        if rows is not None:
            heads = rows.view(positions.numel(), -1, head_size)
            _rotate(heads[..., : 2 * cos.shape[-1]], cos.unsqueeze(1), sin.unsqueeze(1), is_neox)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, is_neox: bool) -> None:
    first, second = x.chunk(2, dim=-1) if is_neox else (x[..., ::2], x[..., 1::2])
    turned = first * cos - second * sin, second * cos + first * sin
    first.copy_(turned[0])
    second.copy_(turned[1])
