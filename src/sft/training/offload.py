"""Activations kept in the CPU's memory between the forward and the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor

SMALLEST = 1 << 20
"""Bytes of a tensor that is worth the way."""

Kept: TypeAlias = "Tensor | tuple[torch.device, Tensor]"


@contextmanager
def activations_on_cpu(*, smallest: int = SMALLEST, also_from_cpu: bool = False) -> Iterator[None]:
    """While open, what the backward pass needs of large tensors is copied to the CPU, and comes back when it is used.

    Weights stay where they are. The copies are ordered with the work of the device, so that nothing waits for them but
    what uses them.

    Args:
        smallest: bytes from which on a tensor is moved.
        also_from_cpu: copy tensors of the CPU, too; of use in tests only.
    """

    def pack(tensor: Tensor) -> Kept:
        owner = tensor if tensor._base is None else tensor._base
        is_weight = owner.is_leaf and owner.requires_grad
        stays = tensor.device.type == "cpu" and not also_from_cpu
        if stays or is_weight or tensor.nbytes < smallest:
            return tensor
        away = torch.empty_like(tensor, device="cpu", pin_memory=tensor.device.type == "cuda")
        away.copy_(tensor, non_blocking=True)
        return tensor.device, away

    def unpack(kept: Kept) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        device, away = kept
        return away.to(device, non_blocking=True)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
