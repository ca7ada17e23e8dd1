"""A machine that is cut off: the run ends within its timeout on both sides, says who is gone, and goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Case, Nursery, settings

pytestmark = pytest.mark.slow  # they wait for a timeout

PATIENCE = 6
ADDRESSES = ("10.77.0.1", "10.77.0.2")


class TwoHosts:
    """Two network namespaces joined by a cable."""

    def __init__(self) -> None:
        self.names = [f"sft{os.getpid()}{end}" for end in "ab"]
        self.ports = [f"v{os.getpid()}{end}" for end in "ab"]

    def make(self) -> None:
        first, second = self.names
        for name in self.names:
            _ip("netns", "add", name)
        cable = ("type", "veth", "peer", "name", self.ports[1], "netns", second)
        _ip("link", "add", self.ports[0], "netns", first, *cable)
        for name, port, address in zip(self.names, self.ports, ADDRESSES, strict=True):
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", port)
            _ip("-n", name, "link", "set", port, "up")

    def plug(self, state: str) -> None:
        """The second host's end of the cable: up or down."""
        _ip("-n", self.names[1], "link", "set", self.ports[1], state)

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[TwoHosts]:
    """Two hosts, or a reason why there are none."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("two network namespaces need root and iproute2")
    hosts = TwoHosts()
    try:
        hosts.make()
        yield hosts
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    finally:
        hosts.remove()


def test_a_host_that_is_cut_off(
    hosts: TwoHosts,
    nursery: Nursery,
    case: Callable[[str], Case],
    fault_rows: Path,
    tiny_model_folder: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    config = {
        **settings(fault_rows, tiny_model_folder, tmp_path / "cache"),
        "per_device_train_batch_size": 2,
        "max_steps": 6,
        "save_steps": 2,
        "save_total_limit": None,
        "output_dir": str(folder),
    }
    order = {"ranks": 2, "hosts": hosts.names, "ports": hosts.ports, "address": ADDRESSES[0]}
    nursery.begin({**config, "ddp_timeout": PATIENCE}, **order, strikes=[1, 3, "wait"], patience=40)
    deadline = time.monotonic() + 90
    while not (folder / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    hosts.plug("down")
    (folder / "go").touch()
    cut = time.monotonic()
    first, second = nursery.end()["ranks"]
    named = case("a host that is cut off: named on both sides")
    named.note("lost rank 1 (" in (first["error"] or ""), first)
    named.note(f"lost the others: it no longer reaches {ADDRESSES[0]}" in (second["error"] or ""), second)
    # the timeout, the roll call, and what a busy machine takes to end two processes
    assert time.monotonic() - cut < PATIENCE + 45
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-2"]
    hosts.plug("up")
    again = case("a run that lost a host, started again")
    seen = nursery.run({**config, "ddp_timeout": 60}, **order)
    fine = not seen["error"] and f"resuming from {folder / 'checkpoint-2'}" in seen["said"]
    again.note(fine and (folder / "final_model" / "model.safetensors").is_file(), seen)
