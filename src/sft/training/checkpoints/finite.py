"""Whether weights are numbers, before a checkpoint of them may take the place of a good one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


def weights_not_finite(model: nn.Module) -> str | None:
    """The first trained weight that holds NaN or infinity, as far as this process holds it; None if there is none."""
    names, held = [], []
    for name, tensor in _trained(model):
        names.append(name)
        held.append(tensor)
    if not held:
        return None
    largest = torch.stack([norm.float().cpu() for norm in torch._foreach_norm(held, float("inf"))])
    bad = (~torch.isfinite(largest)).nonzero().flatten().tolist()
    return names[bad[0]] if bad else None


def _trained(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, weight in model.named_parameters():
        held = getattr(weight, "ds_tensor", weight).detach()
        held = held.to_local() if hasattr(held, "to_local") else held
        if weight.requires_grad and held.is_floating_point() and held.numel():
            yield name, held
