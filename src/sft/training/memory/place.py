"""Where a run would train, and how much memory there is."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sft.export.memory import available_memory
from sft.training.launch import local_rank

CUDA_WORKSPACE = 32 << 20
"""What cuBLAS takes beside tensors, from PyTorch's own allocator."""


@dataclass(frozen=True)
class Place:
    """A device, or the memory of the machine."""

    kind: str
    """cuda, cpu, ..."""
    name: str
    free: int | None
    """Bytes that a run could take; None where it is not known."""
    total: int | None

    @property
    def on_accelerator(self) -> bool:
        """Whether tensors lie in a memory of its own."""
        return self.kind != "cpu"


def find_place() -> Place:
    """The device of this process."""
    if torch.cuda.is_available():
        index = local_rank() % torch.cuda.device_count()
        free, total = torch.cuda.mem_get_info(index)
        room = int(free) + torch.cuda.memory_reserved(index) - CUDA_WORKSPACE
        return Place("cuda", torch.cuda.get_device_name(index), room, int(total))
    if torch.backends.mps.is_available():
        total = int(torch.mps.recommended_max_memory())
        return Place("mps", "Apple GPU", total - int(torch.mps.current_allocated_memory()), total)
    there = available_memory()
    return Place("cpu", "this machine's memory", there, there)


def imagined_gpu(size: int) -> Place:
    """A GPU that is not here."""
    return Place("cuda", "a GPU as given", size - CUDA_WORKSPACE, size)
