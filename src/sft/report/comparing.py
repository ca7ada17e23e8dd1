"""Several runs in one table: what each measured before and after, and which is ahead where they measured alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft.report.story import RunStory
from sft.report.verdict import LossChange, Verdict, best_entry, has_combined, is_of_hundred, last_entry
from sft.tasks.combined import comparable

SAME_LOSS = (
    *("evaluation_data", "validation_size", "tokenizer", "chat_template", "use_chat_template", "chat_template_kwargs"),
    *("system_prompt", "train_on", "rewritten_history", "max_length", "overlong", "stage", "dpo_beta", "dpo_loss_type"),
)
"""Fingerprints that two evaluation losses must share before one says anything about the other."""

SPLIT_OFF = ("data", "seed")
"""And these, where the evaluation data were split off the training data."""

NO_LOSS = LossChange(
    **dict.fromkeys(("before", "after", "after_step", "lowest", "lowest_step", "counted"), None), per="trained token"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One measure of every run."""

    what: str
    values: tuple[float | None, ...]
    """In the order of the runs."""
    before: tuple[float | None, ...] = ()
    """Of the untrained model; empty where that is no question."""
    decimals: int = 4
    counts: str = ""
    """What a value is a number of."""
    ahead: int | None = None
    """The run with the best value; None where they are equal, or were not measured alike."""


def compare(stories: Sequence[RunStory], verdicts: Sequence[Verdict]) -> list[Compared]:
    """Evaluation loss and scores of the runs, and what they took; only what any of them measured."""
    return [row for row in (*_losses(stories, verdicts), *_scores(stories, verdicts)) if any_measured(row.values)]


def any_measured(values: Sequence[float | None]) -> bool:
    """Whether there is a value at all."""
    return any(value is not None for value in values)


def _losses(stories: Sequence[RunStory], verdicts: Sequence[Verdict]) -> Iterator[Compared]:
    losses = [verdict.loss or NO_LOSS for verdict in verdicts]
    tokens = {loss.counted for loss in losses}
    alike = len(tokens) == 1 and len({_measured_how(story) for story in stories}) == 1
    before, after = tuple(loss.before for loss in losses), tuple(loss.after for loss in losses)
    lowest = tuple(loss.lowest for loss in losses)
    ahead = first_alone(after, min) if alike else None
    yield Compared(what="Evaluation loss", values=after, before=before, ahead=ahead)
    if lowest != after:
        ahead = first_alone(lowest, min) if alike else None
        yield Compared(what="Lowest evaluation loss", values=lowest, ahead=ahead)
    counts = f"{losses[0].per}s" if losses[0].per == "trained token" else "pairs of answers"
    counted = tuple(loss.counted for loss in losses)
    yield Compared(what="Evaluation loss is taken over", values=counted, decimals=0, counts=counts)


def _measured_how(story: RunStory) -> tuple[str, ...]:
    prints = story.part("fingerprints")
    names = SAME_LOSS if prints.get("evaluation_data") != "none" else (*SAME_LOSS, *SPLIT_OFF)
    return tuple(repr(prints.get(name)) for name in names)


def _scores(stories: Sequence[RunStory], verdicts: Sequence[Verdict]) -> Iterator[Compared]:
    rows = [[row for row in verdict.scores if row.is_main] for verdict in verdicts]
    names = dict.fromkeys((row.task, row.metric) for one in rows for row in one)
    for task, metric in names:
        found = [next((row for row in one if (row.task, row.metric) == (task, metric)), None) for one in rows]
        alike = _asked_alike(stories, [task])
        decimals = 2 if is_of_hundred(metric) else 4
        untrained = tuple(None if row is None else row.untrained for row in found)
        best = tuple(None if row is None else row.best for row in found)
        ahead = first_alone(best, max) if alike else None
        yield Compared(what=f"{task}: {metric}", values=best, before=untrained, decimals=decimals, ahead=ahead)
    if any(has_combined(story) for story in stories):
        histories = [story.history for story in stories]
        tasks = list(dict.fromkeys(task for task, _ in names))
        combined = tuple(
            None if history.best_trained is None else history.best_trained.combined_score for history in histories
        )
        ahead = first_alone(combined, max) if _asked_alike(stories, tasks) else None
        before = tuple(None if one.untrained is None else one.untrained.combined_score for one in histories)
        yield Compared(what="combined", values=combined, before=before, ahead=ahead)


def _asked_alike(stories: Sequence[RunStory], tasks: Sequence[str]) -> bool:
    """Whether all runs were asked the same rows of these tasks and scored in the same way."""
    entries = [best_entry(story) or last_entry(story) for story in stories]
    asked: list[Mapping[str, Any]] = [
        {task: entry.results[task] for task in tasks if task in entry.results} for entry in entries if entry is not None
    ]
    if len(asked) < len(entries) or not all(set(tasks) == set(one) for one in asked):
        return False
    return all(comparable(asked[0], other) for other in asked[1:])


def first_alone(values: Sequence[float | None], best: Callable[[list[float]], float]) -> int | None:
    """Where the best value stands, if every run has one and no other has the same."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or known.count(best(known)) != 1:
        return None
    return known.index(best(known))
