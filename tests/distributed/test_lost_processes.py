"""A process that hangs, and a machine that is cut off: the run ends within its timeout, names who is gone, resumes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import HERE, TORCHRUN, Launch

pytestmark = pytest.mark.slow  # they wait for a timeout

PATIENCE = 8


@pytest.fixture
def options(settings: dict[str, Any], tmp_path: Path) -> Path:
    """The file of a run whose processes wait eight seconds for each other."""
    file = tmp_path / "options.json"
    file.write_text(json.dumps({**settings, "ddp_timeout": PATIENCE, "output_dir": str(tmp_path / "run")}))
    return file


def test_a_process_that_hangs_is_named(launch: Launch, options: Path) -> None:
    started = launch(*TORCHRUN, "--nproc_per_node=2", HERE / "misfortune.py", options, 1, 3, "hang", timeout=100)
    assert started.returncode != 0
    assert "lost rank 1 (" in started.stdout, started.stdout[-3000:]
    assert f"which does not answer: it died, hangs or is cut off. Waited at most ddp_timeout = {PATIENCE} s" in (
        started.stdout
    )
    assert started.stdout.count("sft: error: ") == 1


class TwoHosts:
    """Two network namespaces joined by a cable, with the addresses 10.77.0.1 and 10.77.0.2."""

    def __init__(self) -> None:
        self.names = [f"sft{os.getpid()}{end}" for end in "ab"]
        self.ports = [f"v{os.getpid()}{end}" for end in "ab"]

    def make(self) -> None:
        first, second = self.names
        for name in self.names:
            _ip("netns", "add", name)
        cable = ("type", "veth", "peer", "name", self.ports[1], "netns", second)
        _ip("link", "add", self.ports[0], "netns", first, *cable)
        for number, (name, port) in enumerate(zip(self.names, self.ports, strict=True), start=1):
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", port)
            _ip("-n", name, "link", "set", port, "up")

    def plug(self, state: str) -> None:
        """The second host's end of the cable: up or down."""
        _ip("-n", self.names[1], "link", "set", self.ports[1], state)

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def start(self, number: int, *words: object, log: Path) -> subprocess.Popen[str]:
        """torchrun on one host, as a user would start it there."""
        torchrun = (sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1")
        where = (f"--node_rank={number}", "--master_addr=10.77.0.1", "--master_port=29400")
        with log.open("w") as file:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.names[number], *torchrun, *where, *map(str, words)],
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": self.ports[number]},
            )


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


def both(hosts: TwoHosts, tmp_path: Path, *words: object) -> list[subprocess.Popen[str]]:
    return [hosts.start(number, *words, log=tmp_path / f"host{number}.txt") for number in (0, 1)]


def ends(started: list[subprocess.Popen[str]], tmp_path: Path, seconds: float) -> tuple[list[int], list[str]]:
    """Exit codes and outputs; whatever still runs after ``seconds`` is ended, and the test fails."""
    try:
        deadline = time.monotonic() + seconds
        codes = [process.wait(max(0.1, deadline - time.monotonic())) for process in started]
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
                process.wait(20)
    return codes, [(tmp_path / f"host{number}.txt").read_text() for number in (0, 1)]


def test_a_host_that_is_cut_off_ends_the_run_with_a_name_and_the_same_command_goes_on(
    hosts: TwoHosts, options: Path, tmp_path: Path
) -> None:
    words = (HERE / "misfortune.py", options, 1, 3, "wait")
    started = both(hosts, tmp_path, *words)
    deadline = time.monotonic() + 90
    while not (tmp_path / "run" / "ready").exists() and time.monotonic() < deadline:
        assert all(process.poll() is None for process in started), (tmp_path / "host0.txt").read_text()[-3000:]
        time.sleep(0.1)
    hosts.plug("down")
    (tmp_path / "run" / "go").touch()
    cut = time.monotonic()
    codes, (first, second) = ends(started, tmp_path, 90)
    assert all(codes), (first, second)
    assert "lost rank 1 (" in first, first[-3000:]
    assert "lost the others: it no longer reaches 10.77.0.1" in second, second[-3000:]
    # the timeout, the roll call, and what a busy machine takes to end two processes
    assert time.monotonic() - cut < PATIENCE + 45
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]
    hosts.plug("up")
    codes, (first, second) = ends(both(hosts, tmp_path, *words), tmp_path, 120)
    assert codes == [0, 0], (first[-3000:], second[-3000:])
    assert f"resuming from {tmp_path / 'run' / 'checkpoint-2'}" in first
    assert (tmp_path / "run" / "final_model" / "model.safetensors").is_file()
