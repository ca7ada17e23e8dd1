"""Evaluation by generation while training: step 0, every ``eval_steps``, the end; the best model is kept.

An evaluation that fails is recorded with its reason and costs nothing else: training goes on, the next one tries again.
One that a signal ends is not recorded: the run stops there, and begins with it when it goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.errors import PeerLost
from sft.evaluation.history import EvaluationEntry, EvaluationHistory
from sft.tasks.combined import CombinedWeights, combined_score, has_combined, require_comparable
from sft.training.stopping import StopWhenAsked

FINAL = "final_eval_results.json"
COMBINED, MEAN = "eval_combined_score", "eval_mean_score"
"""One of them is logged where the tasks of an evaluation were scored."""

Evaluate = Callable[[int], Mapping[str, Mapping[str, Any]]]
"""Step -> results by task, of the model as it is now; every process calls it."""


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """What the callback is told once."""

    folder: Path
    """The run folder."""
    weights: CombinedWeights
    partial: bool
    """Only some rows of each task are asked."""
    contaminated: int
    """Training rows that hold what is asked, kept on purpose."""


class GenerationEvaluation(TrainerCallback):  # type: ignore[misc]
    """Runs the evaluations of a training and keeps their history.

    Args:
        evaluate: measures the model at a step.
        save: writes the model of a step into a folder of the run, by that folder's name.
        announce: tells people.
        on_failure: told the step and the reason of an evaluation that failed.
        log: hands figures to the trackers.
        compare: a table of scores before and now.
        close: ends the engine.
        plan: see ``EvaluationPlan``.
        every_adapter: also keep ``adapter_step_N`` for each evaluated step.
        stopper: hears the signals that ask for a stop.
    """

    def __init__(
        self,
        *,
        evaluate: Evaluate,
        save: Callable[[str], object],
        announce: Callable[[str], None],
        on_failure: Callable[[int, str], None],
        log: Callable[[dict[str, float]], None],
        compare: Callable[[Mapping[str, Any], Mapping[str, Any]], str],
        close: Callable[[], None],
        plan: EvaluationPlan,
        best_name: str,
        every_adapter: bool,
        stopper: StopWhenAsked | None = None,
    ) -> None:
        self.evaluate = evaluate
        self.save = save
        self.announce = announce
        self.on_failure = on_failure
        self.log = log
        self.compare = compare
        self.close = close
        self.plan = plan
        self.best_name = best_name
        self.every_adapter = every_adapter
        self.stopper = stopper
        self.history = EvaluationHistory()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up the history of a resumed run as far as its checkpoint; measure the untrained model of a new one."""
        step = int(state.global_step)
        if step:
            self.history = EvaluationHistory.read(self.plan.folder).until(step)
        if self.is_missing(args, state) and not self.run(args, state) and self.stopper is not None:
            self.stopper.end_at(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Every ``eval_steps``, and at the last step."""
        if not is_due(args, state):
            return
        logs_loss = control.should_log
        if not self.run(args, state) and self.stopper is not None:
            self.stopper.stop_at(state, control, is_unfinished=True)
        control.should_log = logs_loss  # logging the scores has cleared it

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say plainly whether training made the model better, and let the engine go."""
        self.close()
        if state.is_world_process_zero:
            self.write_final(state.global_step)
        self.announce(self.verdict())

    def catch_up(self, args: TrainingArguments, state: TrainerState) -> None:
        """Do the evaluation of the last step, where a signal ended the one that was begun."""
        self.history = EvaluationHistory.read(self.plan.folder).until(int(state.global_step))
        if self.is_missing(args, state):
            self.run(args, state)
            self.on_train_end(args, state, TrainerControl())

    def is_missing(self, args: TrainingArguments, state: TrainerState) -> bool:
        """Whether the step that was reached is to be evaluated, and is not."""
        return is_due(args, state) and all(entry.step != state.global_step for entry in self.history.entries)

    def run(self, args: TrainingArguments, state: TrainerState) -> bool:
        """Evaluate the model as it is now, and keep it if it is the best trained one. False: a signal ended it."""
        step = int(state.global_step)
        name = f"adapter_step_{step}"
        if step and self.every_adapter:
            self.save(name)
        entry = self.measure(step)
        if entry.failure is not None and self.stopper is not None and self.stopper.is_asked_anywhere(args):
            return False
        was_best = self.history.best_trained
        self.history.add(entry)
        if self.history.best_trained is entry and entry is not was_best:
            self.save(self.best_name)
        if state.is_world_process_zero:
            self.history.write(self.plan.folder)
        if entry.failure is not None:
            self.on_failure(step, entry.failure)
            return True
        self.log(figures(entry))
        self.announce(self.describe(entry))
        return True

    def measure(self, step: int) -> EvaluationEntry:
        """One entry of the history; a failure is one, too."""
        try:
            results = self.evaluate(step)
            score = combined_score(results, self.plan.weights) if has_combined(results) else None
            self.refuse_other_measure(results)
            failure = None
        except PeerLost:
            raise
        except Exception as error:  # whatever it is, hours of training are worth more than one evaluation
            results, score, failure = {}, None, f"{type(error).__name__}: {error}"
        return EvaluationEntry(
            step=step,
            timestamp=datetime.now().isoformat(timespec="seconds"),
            combined_score=score,
            results=results,
            failure=failure,
            partial=self.plan.partial,
            contaminated=self.plan.contaminated,
        )

    def refuse_other_measure(self, results: Mapping[str, Mapping[str, Any]]) -> None:
        """Scores of other scorers or other rows are never ranked together."""
        earlier = next((entry for entry in self.history.entries if entry.results), None)
        if earlier is not None:
            require_comparable(earlier.results, results)

    def describe(self, entry: EvaluationEntry) -> str:
        """The entry for people: every score beside that of step 0."""
        untrained = self.history.untrained
        before = entry.results if untrained is None else untrained.results
        part = ", on a part of the rows" if entry.partial else ""
        table = self.compare(before, entry.results)
        return f"step {entry.step}: {name_of_score(entry)} {entry.score:.4f}{part}\n{table}"

    def verdict(self) -> str:
        """One line on the whole run."""
        best, untrained, trained = self.history.best, self.history.untrained, self.history.best_trained
        if best is None or trained is None:
            return "no trained step has an evaluation"
        if untrained is None:
            return f"best step {trained.step}: {name_of_score(trained)} {trained.score:.4f} (step 0 was not measured)"
        scores = f"{name_of_score(trained)} {trained.score:.4f} at step {trained.step}, {untrained.score:.4f} untrained"
        if best is untrained:
            return f"no evaluated step beats the untrained model ({scores})"
        return f"better than the untrained model ({scores})"

    def write_final(self, step: int) -> None:
        """``final_eval_results.json``: the last evaluation, and the best."""
        last = next((entry for entry in reversed(self.history.entries) if entry.step == step), None)
        best = self.history.to_dict()
        final = {
            "combined_score": None if last is None else last.combined_score,
            "best_step": best["best_step"],
            "best_score": best["best_score"],
            "best_trained_step": best["best_trained_step"],
            "step": step,
            "results": {} if last is None else last.to_dict()["results"],
        }
        path = self.plan.folder / FINAL
        path.write_text(json.dumps(final, indent=2, ensure_ascii=False), encoding="utf-8")


def name_of_score(entry: EvaluationEntry) -> str:
    """What its ``score`` is."""
    return "mean of the tasks' scores" if entry.combined_score is None else "combined score"


def figures(entry: EvaluationEntry) -> dict[str, float]:
    """What is logged of an evaluation: what it is ranked by, and the main score of each task."""
    scores = {f"eval_{task}": float(values["main_score"]) for task, values in entry.results.items()}
    return {MEAN if entry.combined_score is None else COMBINED: entry.score or 0.0, **scores}


def is_due(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether the model of a step is evaluated: the untrained one, every ``eval_steps``, and the last one."""
    step = int(state.global_step)
    return step % steps_between(state, args) == 0 or step >= int(state.max_steps)


def steps_between(state: TrainerState, args: TrainingArguments) -> int:
    """``eval_steps`` as a count; below 1 it is a share of all steps, counted as transformers counts it for the loss."""
    asked = float(args.eval_steps or 0)
    if asked >= 1:
        return int(asked)
    return max(1, math.ceil(asked * state.max_steps)) if asked else max(1, int(state.max_steps))
