"""Stacks of a process that hangs are written while it hangs, native code that holds Python's lock included."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from sft.errors import TrainingStopped
from sft.training import stacks
from sft.training.stacks import StackWatch, keep_stacks

NOTHING: dict[str, Any] = {"args": None, "state": None, "control": None}


def hang_in_native_code(watch: StackWatch) -> None:
    ctypes.PyDLL(None).usleep(int(watch.seconds * 3e6))  # PyDLL keeps the lock, so that no thread of Python's can run


@pytest.fixture
def watch(tmp_path: Path) -> Any:
    watch = StackWatch(tmp_path, 3, 0.2)
    watch.on_train_begin(**NOTHING)
    yield watch
    watch.stop()


def test_the_stack_of_a_hang_is_there_while_it_hangs(watch: StackWatch, tmp_path: Path) -> None:
    hang_in_native_code(watch)
    written = (tmp_path / "stacks-rank-3.txt").read_text()
    assert "Timeout" in written
    assert "in hang_in_native_code" in written


def test_a_process_that_was_only_slow_leaves_nothing(watch: StackWatch, tmp_path: Path) -> None:
    hang_in_native_code(watch)
    watch.on_step_end()
    assert (tmp_path / "stacks-rank-3.txt").read_text() == ""
    watch.on_train_end(**NOTHING)
    assert not list(tmp_path.iterdir())
    assert keep_stacks(RuntimeError("later")) == ""


def test_an_error_is_kept_with_where_it_was_raised(watch: StackWatch, tmp_path: Path) -> None:
    try:
        raise RuntimeError("gloo says no")
    except RuntimeError as error:
        said = keep_stacks(error)
    assert said == f"{tmp_path}/stacks-rank-*.txt show where each rank stood. "
    written = (tmp_path / "stacks-rank-3.txt").read_text()
    assert "gloo says no" in written
    assert "in test_an_error_is_kept_with_where_it_was_raised" in written


def test_an_end_in_order_leaves_nothing(watch: StackWatch, tmp_path: Path) -> None:
    assert keep_stacks(TrainingStopped("stopped by SIGTERM")) == ""
    assert not list(tmp_path.iterdir())
    assert stacks._watch is None


def test_without_a_place_for_the_file_training_goes_on(tmp_path: Path) -> None:
    watch = StackWatch(tmp_path / "gone", 0, 0.2)
    watch.on_train_begin(**NOTHING)
    watch.on_step_end()
    watch.on_train_end(**NOTHING)
    assert keep_stacks(RuntimeError("x")) == ""
