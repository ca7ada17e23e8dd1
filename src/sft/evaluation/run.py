"""Tasks and an engine -> answers, scores, files.

examples  ->  prompts  ->  answers  ->  scores  ->  results, on every process the same; the first one writes
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sft.errors import DataError, GenerationError, RowError
from sft.evaluation.files import predictions_path, results_path, write_predictions, write_results
from sft.evaluation.progress import EvaluationProgress, OnProgress
from sft.evaluation.prompting import PromptWriter, WrittenPrompt
from sft.evaluation.sharing import Ranks, share_out
from sft.generation import Completion, Engine
from sft.tasks.longbench import average_categories, read_subsets
from sft.tasks.task import Results, Scored, Task, TaskExample

LONGBENCH = "longbench"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowAnswer:
    """What a model made of one row."""

    text: str
    """As it was generated; empty where the row could not be asked."""

    scored: Scored
    prompt_cut: bool = False
    answer_cut: bool = False
    """It reached the most tokens that an answer may have, and did not come to an end within them."""

    unanswered: str | None = None
    """Why the row could not be asked. It counts as an empty answer, so that every evaluation counts the same rows."""


def evaluate_tasks(
    tasks: Sequence[Task],
    engine: Engine,
    prompts: PromptWriter,
    *,
    samples: int | None,
    folder: Path | None,
    stem: str,
    on_progress: OnProgress | None = None,
    facts: Mapping[str, Any] | None = None,
    ranks: Ranks | None = None,
    is_given_up: Callable[[], bool] = lambda: False,
) -> dict[str, Results]:
    """Ask the rows of every task, score the answers, and write both.

    With several processes it is called on all of them: each asks its share, all return the same results, and the first
    writes. Where only the first can ask (a server of its own), call it there with ``ranks=Ranks()`` inside
    ``Ranks.current().on_first(...)``.

    Args:
        tasks: their rows are opened first, all of them, so that a missing file costs no generation.
        engine: answers; decoding is greedy.
        prompts: writes what the engine is asked.
        samples: rows asked of each task, the first ones; results of fewer than all are marked ``partial``.
        folder: where files go; None: nowhere.
        stem: head of the files' names; ``result_stem(model, step)`` gives the usual one.
        on_progress: told on the first process how far a task is.
        facts: more keys for the results files, such as the step.
        ranks: the processes that share the work. None: those of the process group, if there is one.
        is_given_up: asked whenever answers have come; where it says so, no more are waited for.

    Returns:
        Results by task, in order. Where all 21 subsets of LongBench are asked, ``longbench`` has its averages.

    Raises:
        DataError: rows cannot be read, or not one row of a task can be asked.
        GenerationError: the engine failed, or with several processes any of them did; or it was given up.
    """
    evaluation = _Evaluation(
        engine=engine,
        prompts=prompts,
        samples=samples,
        folder=folder,
        stem=stem,
        on_progress=on_progress,
        facts=facts or {},
        ranks=ranks or Ranks.current(),
        is_given_up=is_given_up,
    )
    return evaluation.run(tasks)


@dataclass(frozen=True, kw_only=True)
class _Evaluation:
    engine: Engine
    prompts: PromptWriter
    samples: int | None
    folder: Path | None
    stem: str
    on_progress: OnProgress | None
    facts: Mapping[str, Any]
    ranks: Ranks
    is_given_up: Callable[[], bool]

    def run(self, tasks: Sequence[Task]) -> dict[str, Results]:
        self.ranks.gather(lambda: sum(len(task.examples()) for task in tasks))
        found = {task.name: self.evaluate(task) for task in tasks}
        averages = average_longbench(found)
        if averages is not None:
            found[LONGBENCH] = averages
            self.ranks.on_first(lambda: self.write(LONGBENCH, averages))
        return found

    def evaluate(self, task: Task) -> Results:
        """Ask, score and write one task."""
        examples = task.examples()[: self.samples]
        shares = self.ranks.gather(lambda: self.ask_share(task, examples))
        answer_of = {position: answer for share in shares for position, answer in share.items()}
        answers = [answer_of[position] for position in range(len(examples))]
        results = {**summarise(task, examples, answers), **self.conditions(task)}
        self.ranks.on_first(lambda: self.write(task.name, results, prediction_rows(task, examples, answers)))
        return results

    def ask_share(self, task: Task, examples: Sequence[TaskExample]) -> dict[int, RowAnswer]:
        """Answers to this process's part of the rows, by position."""
        written, refused = self.write_prompts(task, examples)
        positions = list(written)
        weights = [len(prompt.ids) + self.prompts.answer_tokens(task) for prompt in written.values()]
        asked = [positions[place] for place in share_out(weights, self.ranks.size)[self.ranks.rank]]
        completions = self.complete(task, [written[position] for position in asked], len(positions))
        blank = [*refused] if self.ranks.is_first else []
        texts = [*(completion.text for completion in completions), *("" for _ in blank)]
        own = [*asked, *blank]
        scored = task.score_all([task.clean(text) for text in texts], [examples[position] for position in own])
        answers = {
            position: RowAnswer(text=text, scored=score, unanswered=refused.get(position))
            for position, text, score in zip(own, texts, scored, strict=True)
        }
        for position, completion in zip(asked, completions, strict=True):
            ended = completion.finished == "stop" or task.clean(completion.text) != completion.text
            answers[position] = replace(answers[position], prompt_cut=written[position].is_cut, answer_cut=not ended)
        return answers

    def write_prompts(
        self, task: Task, examples: Sequence[TaskExample]
    ) -> tuple[dict[int, WrittenPrompt], dict[int, str]]:
        """Prompts by position, and why the other rows cannot be asked."""
        written: dict[int, WrittenPrompt] = {}
        refused: dict[int, str] = {}
        for position, example in enumerate(examples):
            try:
                written[position] = self.prompts.write(task, example)
            except DataError as error:
                refused[position] = error.reason if isinstance(error, RowError) else str(error)
        if not written:
            reasons = "; ".join(dict.fromkeys(refused.values())) or "there are none"
            raise DataError(f"{task.name}: not one of {len(examples)} rows can be asked: {reasons}")
        return written, refused

    def complete(self, task: Task, share: Sequence[WrittenPrompt], total: int) -> list[Completion]:
        """Ask the engine; ``total`` rows are asked by all processes together."""
        if not share:
            return []
        started = time.monotonic()

        def tell(done: int, asked: int) -> None:
            if done < asked and self.is_given_up():
                raise GenerationError(f"{task.name}: given up after {done} of {asked} answers, as was asked")
            if self.on_progress is not None and self.ranks.is_first:
                seconds = time.monotonic() - started
                answered = round(total * done / asked)
                self.on_progress(EvaluationProgress(task=task.name, done=answered, total=total, seconds=seconds))

        tell(0, len(share))
        prompts = [prompt.ids for prompt in share]
        completions = self.engine.complete(prompts, self.prompts.sampling(task), on_progress=tell)
        if len(completions) != len(prompts):
            raise GenerationError(f"{task.name}: {len(prompts)} prompts were asked, {len(completions)} answers came")
        return completions

    def conditions(self, task: Task) -> dict[str, Any]:
        """How a task was asked, for its results."""
        proof = getattr(self.engine, "proof", None)
        available, asked = len(task.examples()), len(task.examples()[: self.samples])
        partial = {"partial": True, "num_available": available} if asked < available else {}
        return {
            "engine": engine_name(self.engine),
            "max_prompt_tokens": self.prompts.text_limit(task),
            "max_new_tokens": self.prompts.answer_tokens(task),
            **({"proof": proof.to_dict()} if proof is not None else {}),
            **partial,
        }

    def write(self, name: str, results: Results, rows: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Write the answers first: where results stand, all stands."""
        if self.folder is None:
            return
        if rows is not None:
            write_predictions(predictions_path(self.folder, self.stem, name), rows)
        now = datetime.now().isoformat(timespec="seconds")
        write_results(results_path(self.folder, self.stem, name), {**results, **self.facts, "timestamp": now})


def summarise(task: Task, examples: Sequence[TaskExample], answers: Sequence[RowAnswer]) -> Results:
    """The task's scores, how many prompts and answers were cut, and why rows could not be asked."""
    unanswered = Counter(answer.unanswered for answer in answers if answer.unanswered is not None)
    results = {
        **task.aggregate([answer.scored for answer in answers], examples),
        "prompts_cut": sum(answer.prompt_cut for answer in answers),
        "answers_cut": sum(answer.answer_cut for answer in answers),
    }
    return {**results, "unanswered": dict(unanswered)} if unanswered else results


def prediction_rows(task: Task, examples: Sequence[TaskExample], answers: Sequence[RowAnswer]) -> list[dict[str, Any]]:
    """What the predictions file says of each row: the answer as it was generated, and its score."""
    rows = []
    for example, answer in zip(examples, answers, strict=True):
        row = {**task.prediction_row(answer.text, example), "score": answer.scored["score"]}
        rows.append(row if answer.unanswered is None else {**row, "unanswered": answer.unanswered})
    return rows


def average_longbench(results: Mapping[str, Results]) -> Results | None:
    """LongBench's overall scores where all its subsets are there; the English average is the main one."""
    subsets = {name: results.get(f"{LONGBENCH}/{name}") for name in read_subsets()}
    found = {name: result for name, result in subsets.items() if result is not None}
    if len(found) < len(subsets):
        return None
    averages = average_categories({name: float(result["score"]) for name, result in found.items()})
    partial = {"partial": True} if any(result.get("partial") for result in found.values()) else {}
    return {
        "dataset": LONGBENCH,
        "num_samples": sum(result["num_samples"] for result in found.values()),
        **averages,
        "main_metric": "english average",
        "main_score": averages["english"]["average"],
        "scorer": "means over categories",
        "engine": next(iter(found.values()))["engine"],
        **partial,
    }


def engine_name(engine: Engine) -> str:
    """What results call an engine."""
    return str(getattr(engine, "name", type(engine).__name__))
