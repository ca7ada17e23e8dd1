"""Memory of a training process on a CPU: what a step frees is kept for the next one.

glibc takes every large block from the system and gives it back when it is freed, so that each step writes its
activations into pages that the system has to clear first. Told otherwise, it keeps them; then holes between blocks that
stay can make the process hold up to twice what is alive (docs/memory.md).
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_MMAP_MAX = -4
"""Numbers of settings in glibc's malloc.h (man 3 mallopt)."""

NEVER = 2**31 - 1
USUAL_MAPS, USUAL_TRIM = 65_536, 1 << 17
"""What glibc begins with (man 3 mallopt)."""

LARGE = 1 << 20
"""Bytes from which on a block is given back when it is freed, where nothing is to be kept."""


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed; whether it was told so. Does nothing where it is not glibc."""
    return _tell({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER})


def give_back_freed_memory() -> bool:
    """Have the C library give every large block back; whether it was told so.

    Left alone it stops doing so for blocks of up to 32 MB, and holes between those that stay add up to as much again.
    """
    return _tell({M_MMAP_THRESHOLD: LARGE})


def as_it_was() -> bool:
    """Undo both, and give back what lies free; whether the C library was told so."""
    if not _tell({M_MMAP_MAX: USUAL_MAPS, M_TRIM_THRESHOLD: USUAL_TRIM, M_MMAP_THRESHOLD: USUAL_TRIM}):
        return False
    ctypes.CDLL(None).malloc_trim(0)
    return True


def is_glibc() -> bool:
    """Whether the C library is the one that can be told so."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    return hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt")


def _tell(settings: dict[int, int]) -> bool:
    if not is_glibc():
        return False
    library = ctypes.CDLL(None)
    told = [bool(library.mallopt(name, value)) for name, value in settings.items()]  # all of them, whatever one says
    return all(told)
