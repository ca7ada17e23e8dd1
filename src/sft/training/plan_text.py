"""The plan of a run for people: every number with what it counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sft.data.bad_rows import BAD_ROWS
from sft.data.report import DataReport, count_reasons, histogram, lengths_that_would_keep
from sft.training.plan import Plan

MOST_FORMATS = 4
"""Sources of one format that have a line each."""


def describe_plan(plan: Plan) -> str:
    """The plan for people: a few aligned lines, every number with what it counts."""
    report = plan.data.train.report
    so_far = "" if plan.stream is None or plan.stream.is_whole else "so far "
    lines = [("data", f"{so_far}{report.rows:,} rows -> {describe_examples(report, plan.stage)}")]
    lines += [("format", text) for text in describe_formats(report.formats)]
    lines += [("note", note) for note in report.notes]
    lines += describe_left_out(report, plan.data.cache.folder / "train", plan.max_length)
    share = report.trained_tokens / report.tokens
    lines.append(("tokens", f"{report.tokens:,}, of which {report.trained_tokens:,} trained ({share:.0%})"))
    if plan.tokens_left_out:
        lines.append(("left out", f"{plan.tokens_left_out:,} tokens behind the last trained one: they change nothing"))
    spread = histogram(plan.data.train.examples.lengths.tolist())
    lines.append(("lengths", ", ".join(f"{name} {length}" for name, length in spread.items())))
    if plan.train_packs is not None and plan.stage != "dpo":
        first = "" if plan.stream is None else "first window: "
        lines.append(("packing", f"{first}{len(plan.train_packs):,} rows, {plan.efficiency:.1%} of their slots filled"))
    if plan.stream is not None:
        lines.append(("windows", f"rows are packed and shuffled within {plan.stream.window:,} examples at a time"))
    if plan.order == "sequential":
        lines.append(("order", "rows are seen as the data has them, in every epoch"))
    if plan.batches is not None:
        lines.append(("batches", f"{len(plan.batches):,} by tokens, {plan.efficiency:.1%} of their slots filled"))
    if plan.data.eval is not None:
        held = plan.data.eval.report
        lines.append(("evaluation", f"{describe_examples(held, plan.stage)}, {held.trained_tokens:,} trained tokens"))
    counted = "rows" if plan.batches is None else "batches"
    each = f" ({plan.steps_per_epoch:,} per epoch)" if plan.stream is None else ""
    if plan.rows_per_step == 1:
        counted = counted.removesuffix("es" if counted == "batches" else "s")
    lines.append(("steps", f"{plan.steps:,} of {plan.rows_per_step} {counted} each{each}"))
    lines.append(("prepared", f"{'from the cache' if plan.data.cache.hit else 'now'}: {plan.data.cache.why}"))
    return "\n".join(f"  {name:<11}{text}" for name, text in lines)


def describe_formats(formats: Mapping[str, str]) -> list[str]:
    """How rows are written, source by source; many sources that are written alike share a line."""
    alike: dict[str, list[str]] = {}
    for path, how in formats.items():
        alike.setdefault(how, []).append(path)
    lines = []
    for how, paths in alike.items():
        if len(paths) > MOST_FORMATS:
            lines.append(f"{paths[0]} and {len(paths) - 1} others: {how}")
        else:
            lines += [f"{path}: {how}" for path in paths]
    return lines


def describe_left_out(report: DataReport, folder: Path, max_length: int) -> list[tuple[str, str]]:
    """What became of rows and tokens that are not trained on as they are; ``folder`` is where they are prepared."""
    lines: list[tuple[str, str]] = []
    if report.rejected:
        lines.append(("rejected", f"{report.rejected.total():,}: {count_reasons(report.rejected)}"))
        lines.append(("", f"each of them: {folder / BAD_ROWS}"))
    if report.dropped:
        lines.append(("dropped", f"{report.dropped.total():,}: {count_reasons(report.dropped)}"))
    if better := lengths_that_would_keep(report, max_length):
        lines.append(("", better))
    if report.overlapping:
        name = "asked too" if report.contaminated else "left out"
        what = "trained on all the same (allow_contamination)" if report.contaminated else "evaluation will ask them"
        lines.append((name, f"{report.overlapping.total():,}: {count_reasons(report.overlapping)}; {what}"))
    if report.duplicates:
        lines.append(("duplicates", f"{report.duplicates:,} rows say what an earlier one says; left out (deduplicate)"))
    if report.not_sampled:
        lines.append(("left out", f"{report.not_sampled:,} conversations beyond max_train_samples"))
    if report.held_out:
        lines.append(("held out", f"{report.held_out:,} conversations for the evaluation loss (validation_size)"))
    if report.cut:
        lines.append(("cut", f"{report.cut:,} examples shortened by whole turns to max_length"))
    if report.split:
        lines.append(
            ("split", f"{report.split:,} conversations trained answer by answer (the template rewrites history)")
        )
    if report.rendered_tokens != report.tokens:
        lines.append(("rendered", describe_tokens(report)))
    return lines


def describe_tokens(report: DataReport) -> str:
    """Where every token went that the template wrote."""
    parts = {
        "trained": report.trained_tokens,
        "masked": report.tokens - report.trained_tokens,
        "cut": report.cut_tokens,
        "dropped": report.dropped_tokens.total(),
    }
    return f"{report.rendered_tokens:,} tokens = " + " + ".join(f"{count:,} {name}" for name, count in parts.items())


def describe_examples(report: DataReport, stage: str) -> str:
    """What the rows of the data became: examples; documents and the blocks they were cut into; pairs of answers."""
    if stage == "dpo":
        return f"{report.pairs:,} pairs of answers"
    if stage == "sft":
        return f"{report.examples:,} examples"
    text = f"{report.documents:,} documents -> {report.blocks:,} blocks"
    if report.examples == report.blocks:
        return text
    return f"{text} with {report.examples:,} stretches of documents that do not see each other"
