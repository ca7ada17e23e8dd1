"""What files hold, held against what a page can show: another version, or another program, may have written anything.

Values of another kind are left out and named, so that one of them costs itself and not the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Kinds = Mapping[str, type]

COUNTS = (
    *("rows", "conversations", "examples", "duplicates", "not_sampled", "held_out", "cut", "cut_tokens"),
    *("rendered_tokens", "split", "tokens"),
    *("trained_tokens", "documents", "blocks", "pairs", "packs", "tokens_left_out", "batches", "rows_per_step"),
    *("steps_per_epoch", "steps"),
)
PLAN: Kinds = {
    **dict.fromkeys(COUNTS, int),
    **dict.fromkeys(("rejected", "overlapping", "dropped", "dropped_tokens", "lengths", "formats", "evaluation"), dict),
    "contaminated": bool,
    "packing_efficiency": float,
    "notes": list,
    "stage": str,
}
COUNTED = ("rejected", "overlapping", "dropped", "dropped_tokens", "lengths")
"""Objects of a plan whose values are counts."""

RECORD: Mapping[str, Kinds] = {
    "plan": PLAN,
    "config": {},
    "result": {
        **dict.fromkeys(("model_path", "merged_path", "resumed_from"), str),
        **dict.fromkeys(("train_loss", "eval_loss_before", "eval_loss", "seconds"), float),
        "steps": int,
    },
    "parameters": {"trainable": int, "total": int},
    "memory": {"run_measured_bytes": int},
    "processes": {"num_processes": int},
    "device": {},
    "kernels": {},
    "versions": {},
    "fingerprints": {},
    "ended": {"how": str, "step": int, "time": float, "why": str},
    "command": {"words": list, "folder": str},
}
LISTS = ("notes", "allowed_changes", "starts")


def fit_record(record: Mapping[str, Any], unread: list[str], file: str) -> dict[str, Any]:
    """``run.json`` with nothing in it that is of another kind than runs write.

    Args:
        unread: gets a line for each value that is left out.
    """
    kept: dict[str, Any] = {}
    for name, value in record.items():
        if value is None or (name not in RECORD and name not in LISTS):
            kept[name] = value
        elif name in LISTS:
            if isinstance(value, list):
                kept[name] = value
            else:
                unread.append(f"{file}: {name} is no list and left out")
        elif isinstance(value, Mapping):
            kept[name] = _fit(value, RECORD[name], unread, f"{file}: {name}")
        else:
            unread.append(f"{file}: {name} is no object and left out")
    return kept


def _fit(values: Mapping[str, Any], kinds: Kinds, unread: list[str], place: str) -> dict[str, Any]:
    kept = {}
    for name, value in values.items():
        kind = kinds.get(name)
        if value is not None and kind is not None and not is_of(value, kind):
            unread.append(f"{place}.{name} is of another kind than runs write, and left out")
        elif name == "evaluation" and isinstance(value, Mapping):
            kept[name] = _fit(value, kinds, unread, f"{place}.{name}")
        elif kinds is PLAN and name in COUNTED and isinstance(value, Mapping):
            kept[name] = {reason: count for reason, count in value.items() if is_of(count, int)}
        else:
            kept[name] = value
    return kept


def is_of(value: Any, kind: type) -> bool:
    """Whether a JSON value is of a kind; a whole number is a float too, a truth is no number."""
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


SUMMARY: Mapping[str, Kinds] = {
    "lengths": {"begins": int, "ends": int, "examples": int},
    "sources": {"path": str, "examples": int, "tokens": int},
    "examples": {"why": str, "source": str, "tokens": int, "trained_tokens": int, "segments": list},
}
SUMMARY_COUNTS = ("examples_counted", "more_sources", "looked_at")


def fit_summary(summary: Mapping[str, Any], unread: list[str], file: str) -> dict[str, Any]:
    """``data_summary.json`` with nothing in it that is of another kind than runs write."""
    kept: dict[str, Any] = {name: summary[name] for name in SUMMARY_COUNTS if is_of(summary.get(name), int)}
    for name, kinds in SUMMARY.items():
        items = summary.get(name)
        whole = [item for item in items if _has_all(item, kinds)] if isinstance(items, list) else []
        if name in summary and (not isinstance(items, list) or len(whole) < len(items)):
            unread.append(f"{file}: a part of {name} is of another kind than runs write, and left out")
        kept[name] = whole
    for example in kept["examples"]:
        pairs = [pair for pair in example["segments"] if isinstance(pair, list) and len(pair) == 2]
        example["segments"] = [[str(text), is_trained is True] for text, is_trained in pairs]
        special = example.get("special")  # runs of earlier versions kept none
        example["special"] = [text for text in special if is_of(text, str)] if isinstance(special, list) else []
    return kept if any(kept.values()) else {}


def _has_all(item: Any, kinds: Kinds) -> bool:
    return isinstance(item, Mapping) and all(is_of(item.get(name), kind) for name, kind in kinds.items())
