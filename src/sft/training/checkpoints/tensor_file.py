"""Writes safetensors files, hashing what is written. The library's own writer keeps Python's lock while it writes, so
that a thread of it would stop training; this one lets go of it for every block.

Format: 8 bytes, the length of the header; the header, JSON: name -> dtype, shape, first and last byte; the data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sft.training.checkpoints.block_file import BlockFile, write_all
from sft.training.checkpoints.manifest import FileSeal

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.uint16: "U16", torch.uint32: "U32", torch.uint64: "U64", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2", torch.complex64: "C64",
}  # fmt: skip
ALIGNED = 8


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> FileSeal:
    """Write a file of tensors and wait until it is on the disk.

    Args:
        tensors: of any device and layout; each is brought to the CPU when its turn comes.
        metadata: text that the header carries.

    Returns:
        Size and hash of the file.

    Raises:
        TypeError: a dtype that the format does not know.
        OSError: it could not be written.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # so that all lie aligned
    header, place = {"__metadata__": dict(metadata)} if metadata else {}, 0
    for name in order:
        header[name], place = _entry(name, tensors[name], place)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    begin = len(text).to_bytes(8, "little") + text
    with BlockFile(path, len(begin) + place, lambda file, block: _write(file, block)) as file:
        file.add(torch.frombuffer(bytearray(begin), dtype=torch.uint8))
        for name in order:
            file.add(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8))
        return file.finish()


def _entry(name: str, tensor: torch.Tensor, place: int) -> tuple[Any, int]:
    if tensor.dtype not in DTYPES:
        raise TypeError(f"{name} is of {tensor.dtype}, which safetensors cannot hold")
    end = place + tensor.numel() * tensor.element_size()
    return {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, end]}, end


_write = write_all
"""Looked up when a block is written, so that a test can put a full disk here."""
