"""A copy of what training changes, so that it can be written while training goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn

SPARE = 2.0
"""Free memory, in copies, from which on there is room for one."""


class MemoryCopy:
    """Buffers kept from save to save: fresh memory costs more than copying into it does."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], torch.Tensor] = {}

    def has_room(self, size: int) -> bool:
        """Whether free memory takes copies of so many bytes and as much again, beside the buffers there are."""
        kept = sum(buffer.nbytes for buffer in self._kept.values())
        available = available_memory()
        return available is not None and available >= SPARE * max(0, size - kept)

    def take(self, group: str, tensors: Mapping[str, torch.Tensor], live: set[int]) -> dict[str, torch.Tensor]:
        """The same names with tensors that stay as they are now.

        Args:
            group: the file they are for.
            live: storages that training writes to (see ``live_storages``); what lies elsewhere is not copied.
        """
        copied = {}
        for name, tensor in tensors.items():
            if tensor.untyped_storage().data_ptr() in live:
                copied[name] = self._buffer((group, name), tensor).copy_(tensor.detach(), non_blocking=True)
            else:
                copied[name] = tensor
        if torch.cuda.is_available():
            torch.cuda.current_stream().synchronize()
        return copied

    def _buffer(self, key: tuple[str, str], tensor: torch.Tensor) -> torch.Tensor:
        kept = self._kept.get(key)
        if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._kept[key] = kept
        return kept


def live_storages(model: nn.Module, states: Iterable[torch.Tensor]) -> set[int]:
    """Memory that training writes to: trained weights, buffers, the optimizer's state."""
    changing = [weight for weight in model.parameters() if weight.requires_grad]
    return {tensor.untyped_storage().data_ptr() for tensor in (*changing, *model.buffers(), *states)}


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes that can be had without swapping, as Linux tells; None elsewhere."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    return None if kilobytes is None else kilobytes << 10
