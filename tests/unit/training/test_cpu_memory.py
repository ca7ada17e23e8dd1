"""The allocator is told to keep what is freed, in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
from sft.training.cpu_memory import keep_freed_memory

def step():
    for _ in range(8):
        bytearray(b"x") * (1 << 24)

if sys.argv[1] == "kept":
    assert keep_freed_memory()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Pages that the system had to clear for a step that allocates what the step before it freed."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT, how],
        capture_output=True,
        text=True,
        check=True,
        env={"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "PATH": "/usr/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_pages_that_were_freed_are_used_again() -> None:
    assert faults("given back") > 20 * max(1, faults("kept"))
