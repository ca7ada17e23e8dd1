"""What a run was trained on, counted: rows in and out, tokens, sources, lengths."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sft.report.figures import share
from sft.report.story import RunStory


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A line of an account."""

    what: str
    count: int | None
    reason: str = ""
    level: int = 0
    """1: a part of the line above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stretch of a bar."""

    name: str
    count: int
    share: float
    """Of the whole bar."""
    begins: float


CHANGES = (
    "rejected", "overlapping", "duplicates", "not_sampled", "held_out",
    "dropped", "cut", "split", "documents", "blocks", "pairs",
)  # fmt: skip


def row_account(plan: Mapping[str, Any]) -> list[Counted]:
    """What became of the rows, with the reasons as the run counted them."""
    rows = plan.get("rows")
    kept = {"rows", "conversations", "examples"}
    if rows is not None and all(plan.get(name) == rows for name in kept) and not any(map(plan.get, CHANGES)):
        return [Counted(what="rows read, and each is one example", count=rows)]
    lines = [Counted(what="rows read", count=rows)]
    lines += _by_reason("could not be used", plan.get("rejected"))
    asked = "are also asked by an evaluation, and trained on all the same" if plan.get("contaminated") else (
        "are asked by an evaluation, and left out"
    )  # fmt: skip
    lines += _by_reason(asked, plan.get("overlapping"))
    if plan.get("duplicates"):
        lines.append(Counted(what="say what an earlier row says, and were left out", count=plan["duplicates"]))
    for name, what in (
        ("not_sampled", "conversations left out by max_train_samples"),
        ("held_out", "conversations held out for the evaluation loss"),
    ):
        if plan.get(name):
            lines.append(Counted(what=what, count=plan[name]))
    lines.append(Counted(what="conversations", count=plan.get("conversations")))
    if plan.get("split"):
        lines.append(
            Counted(
                what="of them trained answer by answer: the template rewrites history", count=plan["split"], level=1
            )
        )
    for name, what in (
        ("documents", "documents"),
        ("blocks", "blocks they were cut into"),
        ("pairs", "pairs of answers"),
    ):
        if plan.get(name):
            lines.append(Counted(what=what, count=plan[name]))
    lines += _by_reason("examples dropped for their length", plan.get("dropped"))
    if plan.get("cut"):
        lines.append(Counted(what="examples shortened to max_length", count=plan["cut"]))
    lines.append(Counted(what="examples trained on", count=plan.get("examples")))
    return lines


def _by_reason(what: str, reasons: Any) -> list[Counted]:
    if not isinstance(reasons, Mapping) or not reasons:
        return []
    counts = {str(reason): count for reason, count in reasons.items() if isinstance(count, int)}
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    whole = Counted(what=what, count=sum(counts.values()))
    return [whole, *(Counted(what=reason, count=count, level=1) for reason, count in ordered)]


def token_parts(plan: Mapping[str, Any]) -> list[Part]:
    """Where the tokens went that the template wrote; empty where they were not counted."""
    trained, tokens = plan.get("trained_tokens"), plan.get("tokens")
    if not isinstance(trained, int) or not isinstance(tokens, int):
        return []
    dropped = plan.get("dropped_tokens")
    counts = {
        "trained": trained,
        "read, not trained": tokens - trained,
        "cut away": plan.get("cut_tokens") or 0,
        "dropped": sum(dropped.values()) if isinstance(dropped, Mapping) else 0,
    }
    whole, before, parts = max(1, sum(counts.values())), 0, []
    for name, count in counts.items():
        if count:
            parts.append(Part(name=name, count=count, share=count / whole, begins=before / whole))
        before += count
    return parts


def rows_of_tokens(story: RunStory) -> list[tuple[str, Any]]:
    """How examples share rows, and rows make steps."""
    plan = story.part("plan")
    return [
        ("packing", _packing(story, plan)),
        *([("packed rows", plan["packs"])] if plan.get("packs") else []),
        *([("batches by tokens", plan["batches"])] if plan.get("batches") else []),
        *([("slots that hold a token", share(filled))] if (filled := _filled(plan)) is not None else []),
        ("rows a step", plan.get("rows_per_step")),
        ("steps an epoch", plan.get("steps_per_epoch")),
        ("steps planned", plan.get("steps")),
        ("tokens behind the last trained one, which go through no model", plan.get("tokens_left_out")),
    ]


def _packing(story: RunStory, plan: Mapping[str, Any]) -> str | None:
    if not plan:
        return None
    if plan.get("packs") is None:
        return "none: one example a row"
    if story.option("packing"):
        return "several examples a row"
    return "the two answers of a pair" if plan.get("stage") == "dpo" else "blocks of documents"


def _filled(plan: Mapping[str, Any]) -> float | None:
    """Only where rows or batches were filled up is there anything to say."""
    return plan.get("packing_efficiency") if plan.get("packs") or plan.get("batches") else None


def source_formats(plan: Mapping[str, Any], data: Mapping[str, Any] | None) -> dict[str, Any]:
    """The format of each source by its path. Plans name the rows of a task by the task, not by the file they lie in."""
    formats = plan.get("formats")
    known = formats if isinstance(formats, Mapping) else {}
    paths = [source["path"] for source in (data or {}).get("sources", ())]
    left = {value for name, value in known.items() if name not in paths and isinstance(value, str)}
    other = left.pop() if len(left) == 1 else None
    return {path: known.get(path, other) for path in paths}


def example_pieces(example: Mapping[str, Any]) -> list[tuple[bool, list[tuple[str, bool]]]]:
    """Stretches of an example, trained or not, each as (text, whether it is a special token)."""
    special: Sequence[str] = sorted(filter(None, example["special"]), key=len, reverse=True)
    cut = re.compile(f"({'|'.join(map(re.escape, special))})") if special else None
    return [
        (is_trained, [(piece, piece in special) for piece in (cut.split(text) if cut else [text]) if piece])
        for text, is_trained in example["segments"]
    ]
