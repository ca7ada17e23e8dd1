"""What a finished run says of itself: whether the model got better, where everything is, what to type next."""

from __future__ import annotations

import shlex
from pathlib import Path

from sft.report.names import PAGE
from sft.report.reading import read_run
from sft.report.repeating import Command, commands_after
from sft.report.verdict import ScoreRow, Verdict, judge
from sft.terminal.folding import folded, folded_command
from sft.terminal.line import clock
from sft.terminal.plain import plain
from sft.training.assembled import RunResult

NEXT = ("sft chat", "sft merge")
"""Of the commands that can follow, those that need nothing but sft."""


def describe_result(result: RunResult, width: int | None) -> str:
    """Lines for people.

    Args:
        width: columns of the terminal; None where there is none.
    """
    story = read_run(result.output_dir)
    page = result.output_dir / PAGE
    steps = "1 step" if result.steps == 1 else f"{result.steps:,} steps"
    lines = [
        f"done: {steps}{', some of them before the resume' if result.resumed_from else ''}; "
        f"{clock(result.seconds)} for training and saving",
        *describe_verdict(judge(story)),
        f"saved: {result.saved.model}",
    ]
    if result.saved.merged is not None:
        lines.append(f"merged: {result.saved.merged}")
    if page.is_file():
        lines.append(f"report: {page}")
    text = plain("\n".join(lines))
    commands = [one for one in commands_after(story) if one.line.startswith(NEXT)]
    if page.is_file():
        commands.append(Command(what="draw the page again", line=f"sft report {shlex.quote(str(result.output_dir))}"))
    shown = "\n".join(["next:", *(describe_command(one, width) for one in commands)])
    return f"{text if width is None else folded(text, width)}\n{shown}"


def describe_verdict(verdict: Verdict) -> list[str]:
    """The answer, and each main score with what it was taken over."""
    lines = [f"better: {verdict.answer[:1].lower()}{verdict.answer[1:]}. {verdict.sentence}"]
    if verdict.loss is not None and verdict.loss.counted is not None:
        lines.append(f"  evaluation loss is taken over {verdict.loss.counted:,.0f} trained tokens")
    return [*lines, *(f"  {describe_score(row)}" for row in verdict.scores if row.is_main)]


def describe_score(row: ScoreRow) -> str:
    """One score of the untrained and the best model."""
    before, after = (f"{value:.4f}" if value is not None else "not measured" for value in (row.untrained, row.best))
    part = "" if row.available is None else f" of {row.available:,}"
    asked = "" if row.rows is None else f", {row.rows:,}{part} rows"
    alike = "" if row.is_comparable else " (not measured alike)"
    return f"{row.task} {row.metric}: {before} untrained, {after} best{alike}{asked}, scored by {row.scorer}"


def describe_command(command: Command, width: int | None) -> str:
    """A command that can be copied, whole."""
    line = plain(command.line)
    return f"  {line}" if width is None else f"  {folded_command(line, width - 2)}"


def path_line(model: Path) -> str:
    """All that a quiet run says in the end."""
    return plain(f"saved: {model}")
