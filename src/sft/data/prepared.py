"""Prepared data, as the rest of a run takes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sft.data.cache import CacheEntry
from sft.data.layout import EVAL, REPORT
from sft.data.report import DataReport
from sft.data.store import ExampleStore
from sft.data.stream import Stream


@dataclass(frozen=True)
class PreparedPart:
    """Examples of one part of the data, and what became of its rows."""

    examples: ExampleStore
    report: DataReport


@dataclass(frozen=True)
class PreparedData:
    """Everything training needs of the data."""

    train: PreparedPart
    eval: PreparedPart | None
    cache: CacheEntry
    stream: Stream | None = None
    """Brings the training examples window by window; then ``train`` is the first window, with the report of what was
    prepared when it was asked for. None: ``train`` has all of them."""


def load_part(folder: Path, name: str) -> PreparedPart:
    """A part of a folder of prepared data."""
    return PreparedPart(ExampleStore(folder / name), read_report(folder / name))


def load_evaluation(folder: Path) -> PreparedPart | None:
    """The evaluation data, where there are any."""
    return load_part(folder, EVAL) if (folder / EVAL).is_dir() else None


def read_report(folder: Path) -> DataReport:
    """The report of a part that is complete."""
    values: Mapping[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return DataReport.from_dict(dict(values))
