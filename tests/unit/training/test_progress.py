"""Rates, time left, and who speaks of them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from sft.terminal.screen import SCREEN
from sft.training.base import Throughput
from sft.training.launch import quiet_libraries
from sft.training.progress import Pace, Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clocks show; the tests set it."""
    now = [1000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_rates_are_of_steps_and_not_of_what_came_before_them(clock: list[float]) -> None:
    rates = Throughput()
    clock[0] += 500  # the untrained model is evaluated
    for _ in range(2):
        rates.add(100, 40)
        clock[0] += 5
    first = rates.since_last(2)
    assert (first["tokens_per_second"], first["trained_tokens_per_second"]) == (40.0, 8.0)
    clock[0] += 10  # an evaluation between two steps is time that the user waits
    rates.add(100, 40)
    clock[0] += 10
    assert rates.since_last(1)["tokens_per_second"] == 5.0


def test_time_left(clock: list[float]) -> None:
    pace = Pace()
    assert pace.seconds_left(10) is None
    clock[0] += 60  # the first step compiles
    pace.step(4)  # of a resumed run
    assert pace.seconds_left(10) is None
    for step in (5, 6, 7):
        clock[0] += 2
        pace.step(step)
    assert pace.seconds_left(10) == 6.0
    assert pace.seconds_left(7) == 0.0


@pytest.mark.parametrize("is_first", [True, False])
def test_one_process_speaks(
    is_first: bool, tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SCREEN, "_views", [])
    progress = Progress()
    args, control = TrainingArguments(output_dir=str(tmp_path), report_to="none"), TrainerControl()
    state = TrainerState(is_world_process_zero=is_first, max_steps=2)
    losses = {"loss": 1.5, "tokens_per_second": 2000.0, "trained_tokens_per_second": 800.0}
    progress.on_train_begin(args, state, control)
    progress.on_log(args, state, control, logs={"eval_loss": 2.0, "eval_trained_tokens": 30.0})
    state.global_step = 1
    progress.on_step_end(args, state, control)
    progress.on_log(args, state, control, logs=losses)
    state.global_step = 2
    progress.on_log(args, state, control, logs={"eval_loss": 1.0, "eval_trained_tokens": 30.0})
    progress.on_train_end(args, state, control)
    said = capsys.readouterr().err.splitlines()
    assert not SCREEN._views
    if not is_first:
        assert said == []
        return
    assert said[0] == "step 0: evaluation loss 2.0000 per trained token (30 of them)"
    assert said[1].startswith("step 1/2: loss 1.5000, 2,000 tokens/s, 800 of them trained, --:-- left")
    assert said[2:] == ["step 2: evaluation loss 1.0000 per trained token (30 of them), 2.0000 untrained"]


def test_bars_of_downloads_are_for_those_who_look(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    monkeypatch.setattr(SCREEN, "quiet", True)  # as good as a pipe
    enable_progress_bars()
    try:
        quiet_libraries()
        assert are_progress_bars_disabled()
    finally:
        enable_progress_bars()
