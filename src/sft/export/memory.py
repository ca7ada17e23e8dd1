"""Memory of the machine and of this process, in bytes."""

from __future__ import annotations

import ctypes
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)
"""Limit, use and kinds of use of a container, in the newer and the older form."""


def available_memory() -> int | None:
    """What can be taken without swapping, within the limits of a container; None where the system does not say."""
    found = [_meminfo("MemAvailable")] + [_left_of(*map(Path, paths)) for paths in CGROUPS]
    known = [value for value in found if value is not None]
    return min(known) if known else None


def resident_memory() -> int | None:
    """Memory of this process that is not swapped out; None where the system does not say."""
    return _status("VmRSS")


def code_memory() -> int:
    """Of it, what was mapped from libraries: it grows as more of their code is used. 0 where that is not known."""
    try:
        lines = Path("/proc/self/smaps").read_text().splitlines()
    except OSError:
        return 0
    found, is_code = 0, False
    for line in lines:
        first = line.split(maxsplit=1)[0]
        if not first.endswith(":"):
            is_code = ".so" in line.rpartition("/")[2]
        elif first == "Rss:" and is_code:
            found += int(line.split()[1]) * 1024
    return found


def return_freed_memory() -> None:
    """Give back to the system what was freed here; glibc keeps blocks of less than 32 MB for itself.

    Elsewhere nothing happens.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class PeakMemory:
    """How far the memory of this process rises above its start while the block runs, and how long that takes.

    Linux only; elsewhere ``rise`` stays None.
    """

    rise: int | None = None
    seconds: float = 0.0

    def __enter__(self) -> PeakMemory:
        self._start, self._began = _forget_peak(), time.perf_counter()
        return self

    @staticmethod
    def highest() -> int | None:
        """The most since it was entered; None where the system does not say."""
        return _status("VmHWM")

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        peak = self.highest()
        self.seconds = time.perf_counter() - self._began
        if self._start is not None and peak is not None:
            self.rise = max(0, peak - self._start)


def _forget_peak() -> int | None:
    """Memory now, the peak of the past forgotten; None where that cannot be done."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        Path("/proc/self/clear_refs").write_text("5")  # see proc(5)
    except OSError:
        return None
    return _status("VmRSS")


def _status(name: str) -> int | None:
    return _kibibytes(Path("/proc/self/status"), name)


def _meminfo(name: str) -> int | None:
    return _kibibytes(Path("/proc/meminfo"), name)


def _kibibytes(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _left_of(limit: Path, used: Path, kinds: Path) -> int | None:
    """What a container's limit leaves. Files that were read count as used there, but make room when asked."""
    try:
        stats = dict(line.split()[:2] for line in kinds.read_text().splitlines())
        return max(0, int(limit.read_text()) - int(used.read_text()) + int(stats.get("inactive_file", 0)))
    except (OSError, ValueError):  # no such limit, or "max"
        return None
