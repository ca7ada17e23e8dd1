"""The header of a safetensors file, believed only after it was checked against itself and the size of the file.

A file is: eight bytes (little-endian length n), n bytes of JSON {name: {dtype, shape, data_offsets}}, then the data,
without holes. https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.errors import ModelError

MAX_HEADER = 100_000_000
"""Bytes; the format's own bound."""

BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32,
    "U16": 16, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "C64": 64,
}  # fmt: skip
"""Bits of one element, by the format's names."""


@dataclass(frozen=True)
class HeldTensor:
    """A tensor as a header describes it."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    """First byte, counted from the beginning of the data."""
    end: int

    @property
    def num_elements(self) -> int:
        """1 for a scalar."""
        return math.prod(self.shape)


def read_weight_header(path: Path) -> tuple[dict[str, HeldTensor], int]:
    """What a safetensors file holds, and the byte at which the data begins.

    Raises:
        ModelError: the file is no whole safetensors file; the message names the tensor that cannot be.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = _header_length(path, file.read(8), size)
            header = json.loads(file.read(length), object_pairs_hook=_once)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is no JSON ({error})") from None
    if not isinstance(header, dict):
        raise _broken(path, "its header is no object")
    header.pop("__metadata__", None)
    tensors = {name: _held(path, name, entry) for name, entry in header.items()}
    _check_places(path, tensors, size - 8 - length)
    return tensors, 8 + length


def count_elements(paths: Iterable[Path]) -> tuple[int, int]:
    """Tensors and their elements in some files."""
    found = [held for path in paths for held in read_weight_header(path)[0].values()]
    return len(found), sum(held.num_elements for held in found)


def _header_length(path: Path, first: bytes, size: int) -> int:
    if len(first) < 8:
        raise _broken(path, f"it has {size} bytes")
    (length,) = struct.unpack("<Q", first)
    if length > min(MAX_HEADER, size - 8):
        raise _broken(path, f"it says that its header has {length:,} bytes, and the file has {size:,}")
    return int(length)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is given twice")
    return found


def _held(path: Path, name: str, entry: Any) -> HeldTensor:
    """The description of one tensor, where it makes sense by itself."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _broken(path, f"{_shown(name)} has no dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _broken(path, f"{_shown(name)} has the unknown dtype {_shown(dtype)}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise _broken(path, f"{_shown(name)} has a shape or data_offsets that are no numbers of things")
    held = HeldTensor(dtype, tuple(shape), *offsets)
    needed = -(-held.num_elements * BITS[dtype] // 8)
    if held.end - held.start != needed:
        raise _broken(
            path, f"{_shown(name)} of shape {_shown(shape)} needs {needed} bytes and has {held.end - held.start}"
        )
    return held


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_places(path: Path, tensors: dict[str, HeldTensor], num_bytes: int) -> None:
    """Every byte of the data belongs to exactly one tensor."""
    position = 0
    for name, held in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if held.start != position:
            raise _broken(path, f"{_shown(name)} begins at byte {held.start} of the data, not {position}")
        position = held.end
    if position != num_bytes:
        raise _broken(path, f"its tensors take {position} bytes, and {num_bytes} follow the header")


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _broken(path: Path, why: str) -> ModelError:
    return ModelError(f"{path} is no whole safetensors file: {why}. Save, copy or download it again.")
