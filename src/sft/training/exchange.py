"""Gradients of several processes, exchanged when each of them has made its own, so that a step can be done again.

DDP exchanges them while the last backward pass runs: where one process runs out of memory, the others wait for it in
the middle of that pass. Here each makes its gradient alone, all tell each other whether they could, and then the mean
is taken. The exchange no longer hides behind the backward pass. Where gradients are large that counts, and it is done
so in the first steps only: the longest row comes first, and the optimizer's state comes with the first step, so that
this is where memory mostly runs out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

SMALL = 256 << 20
"""Bytes of gradients that are always exchanged at the end of a step: adapters, small models."""

FIRST_STEPS = 2
"""Steps of a run in which larger ones are, too. By the step's number, so that a resumed run does the same."""

BUCKET = 32 << 20
"""Bytes that are handed over at once."""


def is_exchanged_at_end(model: DistributedDataParallel, step: int) -> bool:
    """Whether the processes of this model exchange the gradients of a step (counted from 0) when it is whole."""
    trained = (weight for weight in model.parameters() if weight.requires_grad)
    return step < FIRST_STEPS or sum(weight.numel() * weight.element_size() for weight in trained) <= SMALL


class Exchange:
    """What processes of DDP tell each other about a step. Every one calls each method, in the same order.

    Args:
        timeout_seconds: after which one that waits for another gives up.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timedelta(seconds=timeout_seconds)
        self._group: Any = None

    def anywhere(self, here: bool) -> bool:
        """Whether it is so on any process. Asked from CPU to CPU: no device is waited for."""
        told = torch.tensor(float(here))
        dist.all_reduce(told, dist.ReduceOp.MAX, group=self._on_cpu())
        return bool(told)

    def everyones(self, value: Any) -> list[Any]:
        """The value of every process, by rank."""
        values: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(values, value, group=self._on_cpu())
        return values

    def average(self, model: nn.Module) -> None:
        """Give every process the mean of all gradients. One that a process lacks counts as zeros there."""
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        has = torch.tensor([weight.grad is not None for weight in trained], dtype=torch.uint8)
        dist.all_reduce(has, dist.ReduceOp.MAX, group=self._on_cpu())
        for weight, is_there in zip(trained, has.tolist(), strict=True):
            if is_there and weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        for bucket in _buckets([weight.grad for weight in trained if weight.grad is not None]):
            together = torch.cat([gradient.reshape(-1) for gradient in bucket]).div_(dist.get_world_size())
            dist.all_reduce(together)
            parts = torch.split(together, [gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def _on_cpu(self) -> Any:
        if self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=self._timeout)
        return self._group


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one type, up to so many bytes together."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (gradient.dtype != bucket[0].dtype or size + gradient.nbytes > BUCKET):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket
