"""The same loss as ``head_loss`` makes, by products of oneDNN and in tiles that stay in a CPU's caches.

A tile is a few hundred positions by ``TILE`` words of the vocabulary. Its logits become its softmax while they are in
the cache. How much a tile counts in its row is known when all tiles of the row are there, for the exponentials of a row
add up to those of its tiles; then it is multiplied by that, and into its part of the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sft.models.cpu_products import product

TILE = 4096
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
        for_matrix = torch.zeros_like(matrix) if wants_matrix else None
        sums = _turned(for_matrix)
        parts_of_head = torch.split(matrix.detach(), TILE)
        losses = torch.empty(len(hidden))
        for start in range(0, len(hidden), positions):
            part = slice(start, start + positions)
            share = torch.ones_like(targets[part], dtype=torch.float32) if weights is None else weights[part]
            here = None if for_hidden is None else for_hidden[part]
            losses[part] = _chunk(hidden[part].contiguous(), parts_of_head, targets[part], share, here, sums)
        if for_matrix is not None:
            for rows, total in zip(torch.split(for_matrix, TILE), sums, strict=True):
                rows.copy_(total.clone().T)
        ctx.gradients = for_hidden, for_matrix
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        (for_hidden, for_matrix), ctx.gradients = ctx.gradients, None
        return (
            None if for_hidden is None else for_hidden.mul_(above),
            None if for_matrix is None else for_matrix.mul_(above),
            None,
            None,
            None,
        )


def _turned(matrix: Tensor | None) -> list[Tensor]:
    """The memory of a matrix (vocabulary, hidden), tile by tile, as (hidden, words of the tile): so products come."""
    return [] if matrix is None else [rows.view(matrix.shape[1], -1) for rows in torch.split(matrix, TILE)]


def _chunk(
    hidden: Tensor,
    parts_of_head: Sequence[Tensor],
    targets: Tensor,
    share: Tensor,
    for_hidden: Tensor | None,
    sums: Sequence[Tensor],
) -> Tensor:
    """Losses of some positions, each times its share, whose gradients are added to what is wanted of these.

    Args:
        for_hidden: (positions, hidden), or None.
        sums: for each part of the head (hidden, its words); empty where its gradient is not wanted.
    """
    tiles, counts, losses = _softmax(hidden, parts_of_head, targets, keep=bool(sums) or for_hidden is not None)
    counts *= share[:, None]
    for number, tile in enumerate(tiles):
        tile.mul_(counts[:, number, None])
        at = _of_tile(targets, number)
        tile[at] -= share[at[0]]
        if for_hidden is not None:
            for_hidden += product(tile, parts_of_head[number].T)
        if sums:
            sums[number].add_(product(hidden.T, tile.T))
    return losses * share


def _softmax(
    hidden: Tensor, parts_of_head: Sequence[Tensor], targets: Tensor, *, keep: bool
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
