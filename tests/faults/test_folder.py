"""Two runs in one folder: the second is refused with the first one's process; a lock that nobody holds is no lock."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sft.errors import ConfigError
from sft.training.checkpoints.lock import LOCK, hold_folder, release_folder

from .conftest import Case, Nursery, Straight, difference

STARTS = 20


def in_child(work: Callable[[], int]) -> int:
    """Fork; the child's exit code is what ``work`` gives."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = work()
        finally:
            os._exit(code)
    return child


def holder(folder: Path) -> int:
    """A process that holds a folder until it is killed; returns when it does."""
    ready, told = os.pipe()

    def work() -> int:
        hold_folder(folder)
        os.write(told, b"1")
        signal.pause()
        return 0

    child = in_child(work)
    assert os.read(ready, 1) == b"1"
    os.close(ready)
    os.close(told)
    return child


def test_a_second_run_is_refused_and_a_stale_lock_is_not(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, second = straight("full"), case("a second run in one folder; then a stale lock")
    config = {**reference.config, "max_steps": 1, "output_dir": str(tmp_path / "run")}
    first = holder(tmp_path / "run")
    refused = nursery.run(config)["error"] or ""
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    again = nursery.run(config)
    named = f"in use by process {first} on {socket.gethostname()}" in refused
    second.note(named and not again["error"] and not (tmp_path / "run" / LOCK).exists(), f"{refused} {again}")


def test_of_many_starts_at_once_one_gets_the_folder(case: Callable[[str], Case], tmp_path: Path) -> None:
    starts, gate = case(f"{STARTS} starts at once in one folder"), os.pipe()
    (tmp_path / LOCK).write_text('{"host": "elsewhere", "pid": 1}')  # of a machine that died

    def start() -> int:
        os.read(gate[0], 1)
        try:
            hold_folder(tmp_path)
        except ConfigError:
            return 2
        signal.pause()
        return 0

    children = [in_child(start) for _ in range(STARTS)]
    os.write(gate[1], b"1" * STARTS)
    codes = [os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]) for _ in range(STARTS - 1)]
    alone = [child for child in children if os.path.exists(f"/proc/{child}")]
    starts.note(codes == [2] * (STARTS - 1) and len(alone) == 1, f"{codes}, left {alone}")
    for child in alone:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(gate[0])
    os.close(gate[1])


def test_the_same_process_may_hold_it_twice_and_its_children_hold_nothing(
    case: Callable[[str], Case], tmp_path: Path
) -> None:
    held = case("a worker that outlives its killed run")
    hold_folder(tmp_path)
    hold_folder(tmp_path)
    ready, told = os.pipe()

    def work() -> int:
        os.write(told, b"1")
        signal.pause()
        return 0

    worker = in_child(work)  # forked while the folder is held, as workers of a data loader are
    assert os.read(ready, 1) == b"1"
    release_folder(tmp_path)
    other = holder(tmp_path)
    held.note(True)
    for child in (worker, other):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(ready)
    os.close(told)


@pytest.mark.parametrize(
    "name", ["with spaces 'and' \"quotes\" {0} %s", "ordner-\u00fc-\u8fd0\u884c-\U0001f9ea", "x" * 180]
)
def test_folders_of_any_name(
    name: str, nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, fine = straight("full"), case("a run folder of an unusual name, killed and gone on with")
    config = {**reference.config, "output_dir": str(tmp_path / name)}
    nursery.run(config, after=reference.seconds / 2)
    seen = nursery.run(config)
    fine.note(not seen["error"] and not difference(tmp_path / name, reference), seen)
