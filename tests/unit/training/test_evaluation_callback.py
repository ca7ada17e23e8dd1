"""History and best model of the evaluations in a training; failures cost an evaluation, never the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback

from sft.evaluation.history import EvaluationHistory
from sft.tasks.combined import CombinedWeights, mean_score
from sft.training.evaluation_callback import EvaluationPlan, GenerationEvaluation, steps_between


def results(score: float, *, scorer: str = "rougeL") -> dict[str, dict[str, Any]]:
    row = {"rougeL": score, "scorer": scorer, "num_samples": 3, "dataset": "qmsum", "main_score": score}
    return {"qmsum": row}


class Course:
    """A training whose evaluations answer from a list, and what was kept of it."""

    def __init__(self, folder: Path, scores: list[float | Exception | dict[str, Any]]) -> None:
        self.saved: list[str] = []
        self.said: list[str] = []
        self.failed: list[tuple[int, str]] = []
        self.logged: list[dict[str, float]] = []
        self._scores: Iterator[Any] = iter(scores)
        self.callback = GenerationEvaluation(
            evaluate=self.evaluate,
            save=self.saved.append,
            announce=self.said.append,
            on_failure=lambda step, why: self.failed.append((step, why)),
            log=self.logged.append,
            compare=lambda before, now: f"{before} -> {now}",
            close=lambda: None,
            plan=EvaluationPlan(folder=folder, weights=CombinedWeights(), partial=False, contaminated=0),
            best_name="best_adapter",
            every_adapter=True,
        )
        self.args = TrainingArguments(output_dir=str(folder), eval_steps=2, use_cpu=True, report_to=[])

    def evaluate(self, step: int) -> Any:
        given = next(self._scores)
        if isinstance(given, Exception):
            raise given
        return given if isinstance(given, dict) else results(given)

    def train(self, *, begin: int = 0, end: int, max_steps: int) -> None:
        state, control = TrainerState(max_steps=max_steps, global_step=begin), TrainerControl()
        state.is_world_process_zero = True
        self.callback.on_train_begin(self.args, state, control)
        for step in range(begin + 1, end + 1):
            state.global_step = step
            self.callback.on_step_end(self.args, state, control)
        if end == max_steps:
            self.callback.on_train_end(self.args, state, control)


def test_every_second_step_and_the_last_are_measured_and_the_best_is_kept(tmp_path: Path) -> None:
    course = Course(tmp_path, [0.1, 0.3, 0.2, 0.25])
    course.train(end=5, max_steps=5)
    history = json.loads((tmp_path / "eval_history.json").read_text())
    assert [entry["step"] for entry in history["history"]] == [0, 2, 4, 5]
    assert (history["best_step"], history["best_score"]) == (2, 0.3)
    assert course.saved == ["adapter_step_2", "best_adapter", "adapter_step_4", "adapter_step_5"]
    final = json.loads((tmp_path / "final_eval_results.json").read_text())
    assert (final["combined_score"], final["best_step"], final["best_score"]) == (0.25, 2, 0.3)
    assert course.said[-1].startswith("better than the untrained model")
    assert [line["eval_qmsum"] for line in course.logged] == [0.1, 0.3, 0.2, 0.25]


def test_the_untrained_model_is_a_candidate_and_the_run_says_so(tmp_path: Path) -> None:
    course = Course(tmp_path, [-0.1, -0.3, -0.2])
    course.train(end=4, max_steps=4)
    history = EvaluationHistory.read(tmp_path)
    assert history.best is history.untrained
    assert history.to_dict()["best_step"] == 0
    assert history.to_dict()["best_trained_step"] == 4
    assert course.said[-1].startswith("no evaluated step beats the untrained model")
    assert course.saved.count("best_adapter") == 2, "the best trained adapter is there for who wants it"


def test_where_the_combined_score_has_no_part_the_mean_of_the_scores_ranks(tmp_path: Path) -> None:
    def of(*scores: float) -> dict[str, dict[str, Any]]:
        names = ("longbench/trec", "longbench/qasper")
        row = {"scorer": "official", "num_samples": 3}
        return {name: {**row, "dataset": name, "main_score": score} for name, score in zip(names, scores, strict=True)}

    course = Course(tmp_path, [of(10, 20), of(8, 20), of(14, 20), of(12, 20)])
    course.train(end=6, max_steps=6)
    assert [name for name in course.saved if name == "best_adapter"] == ["best_adapter"] * 2  # steps 2 and 4
    assert course.said[-1] == (
        "better than the untrained model (mean of the tasks' scores 17.0000 at step 4, 15.0000 untrained)"
    )
    assert [logged["eval_mean_score"] for logged in course.logged] == [15, 14, 17, 16]
    history = EvaluationHistory.read(tmp_path)
    assert (history.to_dict()["best_step"], history.to_dict()["best_score"]) == (4, 17)
    assert [entry.combined_score for entry in history.entries] == [None] * 4


@pytest.mark.parametrize(("share", "max_steps"), [(0.25, 10), (0.2, 7), (0.5, 3), (0.1, 100)])
def test_a_share_of_all_steps_is_the_one_at_which_the_loss_is_measured(share: float, max_steps: int) -> None:
    args = TrainingArguments(eval_steps=share, use_cpu=True, report_to=[])
    state = TrainerState(max_steps=max_steps)
    state.compute_steps(args, max_steps)
    assert steps_between(state, args) == state.eval_steps


def test_all_of_longbench_counts_once() -> None:
    subsets = {f"longbench/{name}": {"main_score": 1.0} for name in "abc"}
    assert mean_score({**subsets, "longbench": {"main_score": 5.0}, "other": {"main_score": 7.0}}) == 6.0


@pytest.mark.parametrize("failure", [RuntimeError("server died"), results(9.0, scorer="bleurt")])
def test_a_failed_or_foreign_evaluation_is_recorded_and_not_ranked(tmp_path: Path, failure: Any) -> None:
    course = Course(tmp_path, [0.1, failure, 0.2])
    course.train(end=4, max_steps=4)
    entries = EvaluationHistory.read(tmp_path).entries
    assert [entry.combined_score for entry in entries] == [0.1, None, 0.2]
    assert entries[1].failure is not None
    assert course.failed == [(2, entries[1].failure)]
    assert EvaluationHistory.read(tmp_path).to_dict()["best_step"] == 4


def test_a_resumed_run_has_the_history_of_an_uninterrupted_one(tmp_path: Path) -> None:
    def without_time(folder: Path) -> list[tuple[int, float | None]]:
        return [(entry.step, entry.combined_score) for entry in EvaluationHistory.read(folder).entries]

    straight, broken = tmp_path / "straight", tmp_path / "broken"
    Course(straight, [0.1, 0.2, 0.4, 0.3]).train(end=6, max_steps=6)
    Course(broken, [0.1, 0.2, 0.4]).train(end=5, max_steps=6)
    # killed after step 5; its last checkpoint is of step 3, so step 4 is measured again
    Course(broken, [0.4, 0.3]).train(begin=3, end=6, max_steps=6)
    assert without_time(broken) == without_time(straight)
    assert EvaluationHistory.read(broken).to_dict()["best_step"] == 4


def test_the_loss_of_an_evaluated_step_is_logged_too(tmp_path: Path) -> None:
    """transformers takes any logging for that of the loss, and then leaves the loss of that step out."""
    course = Course(tmp_path, [0.1, 0.3])
    args = course.args
    state, control = TrainerState(max_steps=4, global_step=2, logging_steps=1), TrainerControl()
    handler = CallbackHandler([DefaultFlowCallback(), course.callback], None, None, None, None)
    course.callback.log = lambda logs: handler.on_log(args, state, control, logs)
    handler.on_step_end(args, state, control)
    assert course.callback.history.entries[-1].step == 2
    assert control.should_log
