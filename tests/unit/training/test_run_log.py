from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from sft.training.launch import SPOKEN, announce
from sft.training.run_log import LoggedFigures, RunLog, end_log, keep_log


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    end_log()
    assert not any(isinstance(handler, RunLog) for handler in SPOKEN.handlers)


def lines(folder: Path) -> list[str]:
    """The log without its times, which are looked at on the way."""
    written = (folder / "train.log").read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (.*)", line) for line in written]
    return [match[1] for match in found if match]


def test_what_is_announced_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    announce("before")
    keep_log(tmp_path, ["before"])
    announce("plan")
    end_log()
    announce("after")
    assert lines(tmp_path) == ["before", "plan"]
    assert capsys.readouterr().err == "before\nplan\nafter\n"


def test_a_resumed_run_goes_on_in_its_log(tmp_path: Path) -> None:
    keep_log(tmp_path)
    announce("one")
    keep_log(tmp_path)
    announce("two")
    assert lines(tmp_path) == ["one", "two"]


def test_one_log_at_a_time(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        keep_log(tmp_path / name)
        announce(name)
    assert [lines(tmp_path / name) for name in ("first", "second")] == [["first"], ["second"]]


@pytest.mark.parametrize(("first", "written"), [(True, ["step 2/4: loss 0.5, learning_rate 0.001"]), (False, [])])
def test_every_logged_step_is_a_line_of_the_first_process(first: bool, written: list[str], tmp_path: Path) -> None:
    keep_log(tmp_path)
    state = TrainerState(global_step=2, max_steps=4, is_world_process_zero=first)
    args = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    LoggedFigures().on_log(args, state, TrainerControl(), logs={"loss": 0.5, "learning_rate": 1e-3})
    assert lines(tmp_path) == written
