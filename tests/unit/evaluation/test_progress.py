from __future__ import annotations

import io
import sys

import pytest

from sft.evaluation.progress import EvaluationProgress, ProgressDisplay
from sft.terminal import screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at(task: str, done: int) -> EvaluationProgress:
    return EvaluationProgress(task=task, done=done, total=4, seconds=done * 0.5)


def test_one_line_that_changes_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(screen, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    display = ProgressDisplay()
    for task in ("qmsum", "truthfulqa"):
        for done in (0, 1, 3, 4):
            display(at(task, done))
    display(at("trec", 2))
    display.close()
    written = terminal.getvalue()
    left = [line.rpartition("\r")[2] for line in written.split("\n")]
    assert left[:2] == [f"{task}: 4/4 answered, 2.00 samples/s, 00:00 left" for task in ("qmsum", "truthfulqa")]
    assert "\rqmsum: 3/4 answered, 2.00 samples/s, 00:00 left  " in written
    assert "\rtrec: 2/4 answered" in written
    assert written.endswith("\r")  # what was not finished is gone
    assert "\x1b" not in written


def test_few_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    display = ProgressDisplay()
    for done in (0, 1, 2, 3, 4):
        display(at("qmsum", done))
    assert capsys.readouterr().err.splitlines() == [
        "qmsum: 4 rows are asked",
        "qmsum: 4/4 answered, 2.00 samples/s, 00:00 left",
    ]
