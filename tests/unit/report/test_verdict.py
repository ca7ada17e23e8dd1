"""Whether the model got better, told plainly: from scores where there are any, else from the loss."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft.report.reading import read_run
from sft.report.verdict import judge

from .conftest import history, write_json, write_lines

MakeRun = Callable[..., Path]


def say(folder: Path) -> tuple[str, str]:
    verdict = judge(read_run(folder))
    return verdict.answer, verdict.sentence


@pytest.mark.parametrize(
    ("scores", "answer"),
    [
        ({0: (0.1, 0.2), 20: (0.4, 0.5)}, "Yes"),
        ({0: (0.4, 0.5), 20: (0.1, 0.2)}, "No"),
        ({0: (0.4, 0.5), 20: (0.4, 0.5)}, "No"),
        ({0: (0.4, 0.5)}, "Not known"),
        ({20: (0.4, 0.5)}, "Not known"),
    ],
)
def test_by_the_combined_score(scores: dict[int, tuple[float, float]], answer: str, make_run: MakeRun) -> None:
    folder = make_run()
    write_json(folder / "eval_history.json", history(scores))
    assert say(folder)[0] == answer


def test_evaluations_that_failed_are_counted(make_run: MakeRun) -> None:
    folder = make_run()
    measured = history({0: (0.1, 0.2), 20: (0.4, 0.5)})
    failed = {"step": 40, "timestamp": "", "combined_score": None, "results": {}, "failure": "RuntimeError: gone"}
    measured["history"].append(failed)
    write_json(folder / "eval_history.json", measured)
    assert "the best of 2 evaluations; 1 more failed." in say(folder)[1]


def longbench(scores: dict[int, tuple[float, float]]) -> dict[str, Any]:
    entries = [
        {
            **{"step": step, "timestamp": "", "combined_score": 0.0},
            "results": {
                f"longbench/{name}": {
                    **{"dataset": name, "num_samples": 9, "score": score, "main_metric": "score"},
                    **{"main_score": score, "scorer": "qa_f1"},
                }
                for name, score in zip(("a", "b"), pair, strict=True)
            },
        }
        for step, pair in scores.items()
    ]
    return {"history": entries}


@pytest.mark.parametrize(
    ("scores", "answer"),
    [
        ({0: (10.0, 20.0), 4: (30.0, 25.0)}, "Yes"),
        ({0: (10.0, 20.0), 4: (30.0, 15.0)}, "In part"),
        ({0: (10.0, 20.0), 4: (10.0, 15.0)}, "No"),
    ],
)
def test_by_each_score_where_there_is_no_combined_one(
    scores: dict[int, tuple[float, float]], answer: str, make_run: MakeRun
) -> None:
    """A run that is asked LongBench alone has a combined score of 0 at every step."""
    folder = make_run()
    write_json(folder / "eval_history.json", longbench(scores))
    assert say(folder)[0] == answer


def test_scores_of_other_rows_are_not_compared(make_run: MakeRun) -> None:
    folder = make_run()
    values = longbench({0: (10.0, 20.0), 4: (30.0, 25.0)})
    values["history"][1]["results"]["longbench/a"]["num_samples"] = 3
    write_json(folder / "eval_history.json", values)
    changes = {row.task: row.change for row in judge(read_run(folder)).scores}
    assert changes == {"longbench/a": None, "longbench/b": 5.0}


@pytest.mark.parametrize(
    ("losses", "result", "answer"),
    [
        ({0: 2.0, 5: 1.0}, {"eval_loss_before": 2.0, "eval_loss": 1.0}, "Yes"),
        ({0: 2.0, 5: 2.5}, {"eval_loss_before": 2.0, "eval_loss": 2.5}, "No"),
        ({0: 2.0, 5: 1.0}, None, "Yes"),
        ({0: 2.0}, None, "Not known yet"),
        ({5: 1.0}, {}, "Not known"),
        ({}, {}, "Not measured"),
    ],
)
def test_by_the_loss(losses: dict[int, float], result: Any, answer: str, make_run: MakeRun) -> None:
    folder = make_run(result=result)
    (folder / "eval_history.json").unlink()
    lines: list[dict[str, Any]] = [{"step": step, "eval_loss": loss} for step, loss in losses.items()]
    write_lines(folder / "metrics.jsonl", [*lines, {"step": 5, "loss": 1.0}])
    assert say(folder)[0] == answer


def test_evaluations_that_failed_are_told(make_run: MakeRun) -> None:
    folder = make_run()
    values = history({0: (0.1, 0.2)})
    values["history"].append(
        {"step": 9, "timestamp": "", "combined_score": None, "results": {}, "failure": "no memory"}
    )
    (folder / "eval_history.json").write_text(json.dumps(values), encoding="utf-8")
    assert say(folder) == ("Not known", "Every evaluation of a trained step failed.")
