"""A file that is written in large blocks, hashed on the way, and past the system's cache where that is possible.

What goes through the cache is copied into fresh pages and written from there later, which the sync at the end waits
for. Written directly (Linux: O_DIRECT) it is on its way at once, takes no memory from training, and little is left to
wait for. A file system that cannot do that says so when the file is opened; then the cache is used.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import torch
import xxhash

from sft.training.checkpoints.manifest import FileSeal

BLOCK = 8 << 20
"""Bytes handed over at once."""

LARGE = 4 * BLOCK
"""Files from so many bytes on are written past the cache."""

ALIGNED = 4096
"""What addresses and lengths of direct writes are multiples of."""

DIRECT = getattr(os, "O_DIRECT", 0)


class BlockFile:
    """Use it as a context; what is added stands in the file, in order, when ``finish`` returns.

    Args:
        size: of the whole file, as far as it is known.
        write: hands a block over to a file.
    """

    def __init__(self, path: Path, size: int, write: Callable[[Any, memoryview], int]) -> None:
        self._file = _open(path, is_large=size >= LARGE)
        self._write = write
        self._memory = mmap.mmap(-1, BLOCK)  # which begins at a page
        self._block = np.frombuffer(self._memory, np.uint8)
        self._filled = self._written = 0
        self._digest = xxhash.xxh3_128()

    def __enter__(self) -> BlockFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, data: torch.Tensor) -> None:
        """Append bytes: a flat tensor of uint8 on the CPU. Python's lock is let go of while they are copied.

        By NumPy: PyTorch would start threads of its own for it, in each thread that writes.
        """
        taken, begin = data.numpy(), 0
        while begin < len(taken):
            part = taken[begin : begin + BLOCK - self._filled]
            np.copyto(self._block[self._filled : self._filled + len(part)], part)
            self._filled += len(part)
            begin += len(part)
            if self._filled == BLOCK:
                self._hand_over()

    def finish(self) -> FileSeal:
        """Write the rest, and wait until all is on the disk."""
        if self._filled % ALIGNED:
            through_cache(self._file)
        self._hand_over()
        os.fsync(self._file.fileno())
        return FileSeal(self._written, self._digest.hexdigest())

    def _hand_over(self) -> None:
        block = memoryview(self._memory)[: self._filled]
        self._digest.update(block)
        self._written += self._write(self._file, block)
        self._filled = 0


def write_all(file: IO[bytes], block: memoryview) -> int:
    """All of a block: a disk that fills up may take a part."""
    done = 0
    while done < len(block):
        done += file.write(block[done:]) or 0
        if done % ALIGNED:
            through_cache(file)
    return done


def through_cache(file: IO[bytes]) -> None:
    """From here on lengths may be any."""
    if DIRECT:
        import fcntl

        handle = file.fileno()
        flags = fcntl.fcntl(handle, fcntl.F_GETFL)
        if flags & DIRECT:
            fcntl.fcntl(handle, fcntl.F_SETFL, flags & ~DIRECT)


def _open(path: Path, *, is_large: bool) -> IO[bytes]:
    if DIRECT and is_large:
        try:
            return open(path, "wb", buffering=0, opener=lambda name, flags: os.open(name, flags | DIRECT, 0o666))
        except OSError:  # refused by the file system: without it, it says what is really wrong, if anything is
            pass
    return path.open("wb", buffering=0)
