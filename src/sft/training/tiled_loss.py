"""The same loss as ``head_loss`` makes, by products of oneDNN and in tiles that stay in a CPU's caches.

A tile is a few hundred positions by ``TILE`` words of the vocabulary. Its logits become its softmax while they are in
the cache. How much a tile counts in its row is known when all tiles of the row are there, for the exponentials of a row
add up to those of its tiles; then it is multiplied by that, and into its part of the gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sft.models.cpu_products import product

TILE = 8192
"""Words of the vocabulary in a tile."""


def tiled_cross_entropy(
    hidden: Tensor, matrix: Tensor, targets: Tensor, weights: Tensor | None, positions: int
) -> Tensor:
    """Cross-entropy in nats, summed over positions; all in float32.

    Args:
        hidden: (positions, hidden).
        matrix: the output head's, (vocabulary, hidden).
        targets: int64 (positions,).
        weights: (positions,), what each position counts; None: 1.
        positions: how many at a time.
    """
    total: Tensor = _InTiles.apply(hidden, matrix, targets, weights, positions)  # type: ignore[no-untyped-call]
    return total


class _InTiles(torch.autograd.Function):
    """Gradients are for a loss of 1 per position, and are multiplied by what comes from above in ``backward``."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, matrix: Tensor, targets: Tensor, weights: Tensor | None, positions: int
    ) -> Tensor:
        wants_hidden, wants_matrix = ctx.needs_input_grad[:2]
        for_hidden = torch.zeros_like(hidden) if wants_hidden else None
        for_matrix = torch.zeros_like(matrix.T, memory_format=torch.contiguous_format) if wants_matrix else None
        parts_of_head = torch.split(matrix.detach(), TILE)
        losses = torch.empty(len(hidden))
        for start in range(0, len(hidden), positions):
            part = slice(start, start + positions)
            here = hidden[part].contiguous()
            tiles, counts, losses[part] = _softmax(here, parts_of_head, targets[part], keep=any(ctx.needs_input_grad))
            share = torch.ones(len(here)) if weights is None else weights[part]
            losses[part] *= share
            counts *= share[:, None]
            for number, tile in enumerate(tiles):
                words = slice(number * TILE, (number + 1) * TILE)
                at = _of_tile(targets[part], number)
                tile.mul_(counts[:, number, None])
                tile[at] -= share[at[0]]
                if for_hidden is not None:
                    for_hidden[part] += product(tile, parts_of_head[number].T)
                if for_matrix is not None:
                    for_matrix[:, words] += product(here.T, tile.T)
        ctx.gradients = for_hidden, for_matrix
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        (for_hidden, for_matrix), ctx.gradients = ctx.gradients, None
        return (
            None if for_hidden is None else for_hidden.mul_(above),
            None if for_matrix is None else for_matrix.mul_(above).T,
            None,
            None,
            None,
        )


def _softmax(
    hidden: Tensor, parts_of_head: tuple[Tensor, ...], targets: Tensor, *, keep: bool
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Softmax within each tile; what each tile counts in its row, (positions, tiles); losses, (positions,)."""
    tiles, tops, spans = [], [], []
    chosen = torch.empty(len(hidden))
    for number, matrix in enumerate(parts_of_head):
        logits = product(hidden, matrix)
        at = _of_tile(targets, number)
        chosen[at[0]] = logits[at]
        share = logits.softmax(dim=1)
        tops.append(logits.amax(dim=1))
        spans.append(share.amax(dim=1).log_().neg_())  # log of the sum of exp(logit - top)
        if keep:
            tiles.append(share)
    top = torch.stack(tops, dim=1)
    highest = top.amax(dim=1)
    sums = top - highest[:, None] + torch.stack(spans, dim=1)
    whole = sums.logsumexp(dim=1)
    return tiles, (sums - whole[:, None]).exp_(), highest - chosen + whole


def _of_tile(targets: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Rows whose target is in a tile, and its column there."""
    rows = (targets // TILE == number).nonzero().squeeze(1)
    return rows, targets[rows] - number * TILE
