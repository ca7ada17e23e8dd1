"""Whether weights are numbers, before a checkpoint of them may take the place of a good one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


def weights_not_finite(model: nn.Module) -> str | None:
    """The first trained weight that holds NaN or infinity, as far as this process holds it; None if there is none."""
    trained = dict(_trained(model))
    if not trained:
        return None
    # a sum reads memory once and makes nothing; it is finite where all terms are, unless large ones overflow
    sums = torch.stack([tensor.sum().float().cpu() for tensor in trained.values()])
    suspects = (~torch.isfinite(sums)).nonzero().flatten().tolist()
    names = list(trained)
    return next((names[place] for place in suspects if not torch.isfinite(trained[names[place]]).all()), None)


def _trained(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, weight in model.named_parameters():
        held = getattr(weight, "ds_tensor", weight).detach()
        held = held.to_local() if hasattr(held, "to_local") else held
        if weight.requires_grad and held.is_floating_point() and held.numel():
            yield name, held
