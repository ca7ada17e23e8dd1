"""A checkpoint as it lies on disk, read one tensor at a time.

Tensors are read, not mapped: mapped pages count as memory of the process until the file is closed.
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from torch import Tensor

from sft.errors import ExportError, ModelError
from sft.models.weight_header import HeldTensor, read_weight_header

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
"""safetensors' names of what a tensor holds."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    """First byte in the file."""
    num_bytes: int


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one or several safetensors files, by name, in the order of the files."""

    tensors: Mapping[str, StoredTensor]

    def read(self, name: str) -> Tensor:
        """One tensor, in memory of its own.

        Raises:
            ExportError: the file ends before the tensor does.
        """
        stored = self.tensors[name]
        flat = torch.empty(stored.num_bytes, dtype=torch.uint8)
        with stored.path.open("rb") as file:
            file.seek(stored.start)
            if file.readinto(bytes_of(flat)) != stored.num_bytes:
                raise ExportError(f"{stored.path} ends within the tensor {name}. Save or copy the file again.")
        return flat.view(stored.dtype).reshape(stored.shape)


def open_checkpoint(paths: Iterable[Path]) -> Checkpoint:
    """Read the headers of safetensors files."""
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        header, begin = read_header(path)
        for name, held in header.items():
            if held.dtype not in DTYPES:
                raise ExportError(f"{path}: the tensor {name} holds {held.dtype}, which is not known here.")
            dtype, start = DTYPES[held.dtype], begin + held.start
            tensors[name] = StoredTensor(path, dtype, held.shape, start, held.end - held.start)
    return Checkpoint(tensors)


def bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a tensor, of a copy where it does not lie in one piece."""
    flat: Any = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(flat)


def read_header(path: Path) -> tuple[dict[str, HeldTensor], int]:
    """What a safetensors file says of each of its tensors, and the byte at which their data begins.

    Raises:
        ExportError: the file is none, or not whole.
    """
    try:
        return read_weight_header(path)
    except ModelError as error:
        raise ExportError(str(error)) from error


def weight_files(model: str, revision: str | None = None) -> list[Path]:
    """The safetensors files of a model, a folder or a name on the hub; empty where it has none."""
    index = _find(model, INDEX, revision)
    if index is None:
        single = _find(model, WEIGHTS, revision)
        return [] if single is None else [single]
    names = dict.fromkeys(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    found = {name: _find(model, name, revision) for name in sorted(names)}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise ExportError(f"{model!r} lacks {', '.join(missing)}, which its {INDEX} names. Copy or download it again.")
    return [path for path in found.values() if path is not None]


def _find(model: str, name: str, revision: str | None) -> Path | None:
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    try:
        return Path(hf_hub_download(model, name, revision=revision))
    except (EntryNotFoundError, OSError, ValueError):  # the caller then loads it whole, which names the reason
        return None
