from __future__ import annotations

from typing import Any

from sft.evaluation.table import compare_table, score_table
from sft.tasks.combined import CombinedWeights


def evaluation(rouge: float, accuracy: float, scorer: str = "rougeL", **more: Any) -> dict[str, dict[str, Any]]:
    return {
        "qmsum": {
            "dataset": "qmsum",
            "num_samples": 200,
            "rougeL": rouge,
            "main_metric": "rougeL",
            "main_score": rouge,
            "scorer": "rouge_score, stemmed",
        },
        "truthfulqa": {
            "dataset": "truthfulqa",
            "num_samples": 817,
            "accuracy": accuracy,
            "avg_max_score": 0.25,
            "main_metric": "accuracy",
            "main_score": accuracy,
            "scorer": scorer,
            **more,
        },
    }


def longbench(score: float) -> dict[str, dict[str, Any]]:
    row = {"dataset": "longbench/trec", "num_samples": 200, "score": score, "scorer": "classification"}
    return {"longbench/trec": {**row, "main_metric": "score", "main_score": score}}


def test_every_score_stands_beside_that_of_step_0() -> None:
    before = {**evaluation(0.1824, 0.459), **longbench(68.5)}
    now = {**evaluation(0.2001, 0.45), **longbench(70.25)}
    assert compare_table(before, now).splitlines() == [
        "                metric         step 0     now   change",
        "qmsum           rougeL         0.1824  0.2001  +0.0177",
        "truthfulqa      accuracy       0.4590  0.4500  -0.0090",
        "truthfulqa      avg_max_score  0.2500  0.2500  +0.0000",
        "longbench/trec  score           68.50   70.25    +1.75",
        "combined                       0.8914  0.9001  +0.0087",
    ]


def test_scores_of_different_scorers_are_shown_and_not_compared() -> None:
    lines = compare_table(evaluation(0.1, 0.5, "bleurt"), evaluation(0.2, 0.4)).splitlines()
    assert lines[2].split() == ["truthfulqa", "accuracy", "0.5000", "0.4000", "-"]
    assert lines[4].split() == ["combined", "0.8500", "0.8500", "-"]
    assert lines[1].split()[-1] == "+0.1000"
    assert lines[5] == "truthfulqa: measured otherwise than at step 0 (rows or scorer), so not compared"


def test_without_step_0_and_with_weights() -> None:
    lines = compare_table(None, evaluation(0.2, 0.4), weights=CombinedWeights(accuracy=2.0)).splitlines()
    assert lines[1].split() == ["qmsum", "rougeL", "-", "0.2000", "-"]
    assert lines[4].split() == ["combined", "-", "1.2500", "-"]
    assert "combined" not in compare_table({}, longbench(1.0))


def test_what_was_left_out_is_said() -> None:
    now = evaluation(0.2, 0.4, num_available=817, unanswered={"no room": 3})
    now["truthfulqa"]["num_samples"] = 50
    lines = score_table(now).splitlines()
    assert lines[0].split() == ["metric", "score", "rows", "scorer"]
    assert lines[1].split() == ["qmsum", "rougeL", "0.2000", "200", "rouge_score,", "stemmed"]
    assert lines[2].split() == ["truthfulqa", "accuracy", "0.4000", "50", "of", "817", "rougeL"]
    assert lines[4].split() == ["combined", "0.8500"]
    assert lines[5:] == [
        "truthfulqa: 50 of 817 rows, so the scores are partial",
        "truthfulqa: 3 rows count as wrong, they could not be asked: no room",
    ]
