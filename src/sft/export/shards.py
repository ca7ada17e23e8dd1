"""Weight files written one tensor at a time: what stands in a file is decided before the first byte is known.

A file has its whole size from the start, and every tensor its place in it, so nothing is kept in memory until a file is
full, and tensors may come in any order.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sft.errors import ConfigError, ExportError
from sft.export.checkpoint import DTYPES, INDEX, WEIGHTS, bytes_of

UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that will be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        """1 for a scalar."""
        return int(torch.Size(self.shape).numel())

    @property
    def num_bytes(self) -> int:
        """Its share of the file."""
        return self.num_elements * self.dtype.itemsize


def parse_size(size: str | int) -> int:
    """Bytes in ``"5GB"``, ``"500MB"``; decimal units, as the hub and transformers count.

    Raises:
        ConfigError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT])B", str(size).strip().upper())
    parsed = size if isinstance(size, int) else int(float(found[1]) * UNITS[found[2]]) if found else 0
    if parsed <= 0:
        raise ConfigError(f"max_shard_size is {size!r}, which is no size of a file. Write it like 5GB or 500MB.")
    return parsed


def split_into_shards(specs: Sequence[TensorSpec], max_bytes: int) -> list[list[TensorSpec]]:
    """Files of at most ``max_bytes``, in the order given; a larger tensor has a file of its own."""
    shards: list[list[TensorSpec]] = [[]]
    size = 0
    for spec in specs:
        if shards[-1] and size + spec.num_bytes > max_bytes:
            shards.append([])
            size = 0
        shards[-1].append(spec)
        size += spec.num_bytes
    return shards


class ShardWriter:
    """Safetensors files in a folder, with an index where there are several."""

    def __init__(self, folder: Path, specs: Sequence[TensorSpec], max_bytes: int) -> None:
        self.folder = folder
        self.places: dict[str, tuple[Path, int, TensorSpec]] = {}
        self.written: set[str] = set()
        _require_space(folder, sum(spec.num_bytes for spec in specs))
        shards = split_into_shards(specs, max_bytes)
        self.paths = [folder / name for name in _file_names(len(shards))]
        for path, shard in zip(self.paths, shards, strict=True):
            self._lay_out(path, shard)

    def write(self, name: str, tensor: Tensor) -> None:
        """Put a tensor in its place, rounded to the precision it is to have."""
        path, start, spec = self.places[name]
        if tuple(tensor.shape) != spec.shape:
            raise ExportError(f"{name} has the shape {tuple(tensor.shape)} after the merge, not {spec.shape}.")
        tensor = tensor.detach().to(spec.dtype)
        with path.open("r+b") as file:
            file.seek(start)
            file.write(bytes_of(tensor))
        self.written.add(name)

    def close(self) -> None:
        """Write the index.

        Raises:
            ExportError: a tensor was never written.
        """
        missing = sorted(self.places.keys() - self.written)
        if missing:
            raise ExportError(f"the merge came to its end without {len(missing)} tensors, such as {missing[0]}")
        if len(self.paths) > 1:
            specs = [spec for _, _, spec in self.places.values()]
            totals = {
                "total_parameters": sum(spec.num_elements for spec in specs),
                "total_size": sum(spec.num_bytes for spec in specs),
            }
            files = {name: path.name for name, (path, _, _) in sorted(self.places.items())}
            index = json.dumps({"metadata": totals, "weight_map": files}, indent=2)
            (self.folder / INDEX).write_text(index + "\n", encoding="utf-8")

    def _lay_out(self, path: Path, shard: Sequence[TensorSpec]) -> None:
        """Write the header and make room for the data. Wider elements come first, so that each is aligned."""
        header: dict[str, Mapping[str, object]] = {"__metadata__": {"format": "pt"}}
        position = 0
        starts = {}
        for spec in sorted(shard, key=lambda spec: -spec.dtype.itemsize):
            end = position + spec.num_bytes
            header[spec.name] = {
                "dtype": NAMES[spec.dtype],
                "shape": list(spec.shape),
                "data_offsets": [position, end],
            }
            starts[spec.name] = position
            position = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + position)
        for spec in shard:
            self.places[spec.name] = (path, 8 + len(text) + starts[spec.name], spec)


def _require_space(folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise ExportError(
            f"The merged weights take {num_bytes / 1e9:.1f} GB, but {folder.parent} has {free / 1e9:.1f} GB left. "
            "Make room, or name an output_path on another disk."
        )


def _file_names(count: int) -> list[str]:
    if count == 1:
        return [WEIGHTS]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
