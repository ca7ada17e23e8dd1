"""Memory is read as the system tells it, within the limits of a container."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sft.export import memory
from sft.export.memory import PeakMemory, available_memory, return_freed_memory

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")


@linux
def test_the_peak_of_a_block_is_what_it_took_and_gave_back() -> None:
    with PeakMemory() as before:
        block = bytearray(1) * 80_000_000
        del block
    with PeakMemory() as after:
        pass
    assert before.rise is not None
    assert after.rise is not None
    assert 75e6 < before.rise < 120e6
    assert after.rise < 20e6  # the earlier peak is forgotten
    assert before.seconds > 0


@linux
def test_what_is_free_is_less_than_what_there_is() -> None:
    free = available_memory()
    assert free is not None
    total = memory._meminfo("MemTotal")
    assert total is not None
    assert 0 < free < total
    return_freed_memory()


def test_a_container_has_less_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "max": "5000000\n",
        "current": "4000000\n",
        "stat": "anon 1\ninactive_file 1500000\nfile 3\n",
    }.items():
        (tmp_path / name).write_text(text)
    paths = tuple(str(tmp_path / name) for name in ("max", "current", "stat"))
    monkeypatch.setattr(memory, "CGROUPS", (paths,))
    assert available_memory() == 2_500_000
    (tmp_path / "max").write_text("max\n")
    assert available_memory() == memory._meminfo("MemAvailable") or available_memory() != 2_500_000
