from __future__ import annotations

import io
import sys

import pytest

from sft.evaluation.progress import EvaluationProgress, ProgressDisplay


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at(task: str, done: int) -> EvaluationProgress:
    return EvaluationProgress(task=task, done=done, total=4, seconds=done * 0.5)


def test_one_bar_per_task_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    display = ProgressDisplay()
    for task in ("qmsum", "truthfulqa"):
        for done in (0, 1, 3, 4):
            display(at(task, done))
    display(at("trec", 2))
    display.close()
    written = terminal.getvalue()
    assert written.count("\n") == 3  # a bar that ends leaves its line
    assert "qmsum: 100%" in written
    assert "4/4" in written
    assert "samples/s" in written
    assert "trec:  50%" in written


def test_few_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    display = ProgressDisplay()
    for done in (0, 1, 2, 3, 4):
        display(at("qmsum", done))
    assert capsys.readouterr().err.splitlines() == [
        "qmsum: 4 rows are asked",
        "qmsum: 4/4 answered, 2.00 samples/s, 00:00 left",
    ]
