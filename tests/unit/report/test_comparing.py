"""Several runs in one table: the values of each, and who is ahead only where all were measured alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sft.report.comparing import Compared, compare, first_alone
from sft.report.reading import read_runs
from sft.report.verdict import judge

from .conftest import history

MakeRun = Callable[..., Path]


def compared(*runs: Path) -> dict[str, Compared]:
    stories = read_runs(list(runs))
    return {row.what: row for row in compare(stories, [judge(story) for story in stories])}


def with_scores(run: Path, scores: dict[int, tuple[float, float]], **changes: Any) -> Path:
    values = history(scores)
    for entry in values["history"]:
        entry["results"]["qmsum"].update(changes)
    (run / "eval_history.json").write_text(json.dumps(values), encoding="utf-8")
    return run


def test_values_are_those_of_the_runs_files_and_the_best_is_ahead(make_run: MakeRun) -> None:
    first, second = make_run("first"), with_scores(make_run("second"), {0: (0.1, 0.25), 20: (0.6, 0.5)})
    rows = compared(first, second)
    best = [json.loads((run / "eval_history.json").read_text())["history"][1]["results"] for run in (first, second)]
    assert rows["qmsum: rougeL"].values == tuple(one["qmsum"]["rougeL"] for one in best) == (0.4, 0.6)
    assert rows["qmsum: rougeL"].before == (0.1, 0.1)
    assert rows["qmsum: rougeL"].ahead == 1
    assert rows["truthfulqa: accuracy"].ahead is None, "both have 0.5"
    result = json.loads((first / "run.json").read_text())["result"]
    assert rows["Evaluation loss"].values == (result["eval_loss"],) * 2
    assert rows["Evaluation loss"].before == (result["eval_loss_before"],) * 2


@pytest.mark.parametrize("change", [{"num_samples": 7}, {"scorer": "another"}])
def test_scores_that_were_not_measured_alike_have_no_best(make_run: MakeRun, change: dict[str, Any]) -> None:
    second = with_scores(make_run("second"), {0: (0.1, 0.25), 20: (0.6, 0.5)}, **change)
    row = compared(make_run("first"), second)["qmsum: rougeL"]
    assert (row.values, row.ahead) == ((0.4, 0.6), None)


@pytest.mark.parametrize(("name", "is_alike"), [("learning_rate", True), ("evaluation_data", False)])
def test_losses_on_other_data_have_no_best(make_run: MakeRun, name: str, is_alike: bool) -> None:
    first, second = make_run("first"), make_run("second")
    record = json.loads((second / "run.json").read_text())
    record["result"]["eval_loss"] -= 1
    record["fingerprints"][name] = "another"
    (second / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert compared(first, second)["Evaluation loss"].ahead == (1 if is_alike else None)


def test_nobody_is_ahead_of_a_run_that_was_not_measured() -> None:
    assert first_alone((0.5, None), max) is None
    assert first_alone((0.5, 0.7, 0.7), max) is None
    assert first_alone((0.5, 0.7, 0.6), min) == 0
