"""What an evaluation leaves on disk: a results file and a predictions file per task, each whole or not there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

TEMPERATURE = 0.0
"""Decoding is greedy; the files' names say so."""

LONGEST_STEM = 150
"""Characters. File systems take names of 255 bytes."""


def result_stem(model: str, step: int | None = None) -> str:
    """The head of the files' names: ``Qwen/Qwen3-0.6B`` at step 20 is ``Qwen_Qwen3-0.6B_step20``."""
    stem = re.sub(r'[\\/:*?"<>|\s]', "_", model)[-LONGEST_STEM:]
    return stem if step is None else f"{stem}_step{step}"


def results_path(folder: Path, stem: str, task: str) -> Path:
    """Where the results of a task lie."""
    return folder / f"{_head(stem, task)}_results.json"


def predictions_path(folder: Path, stem: str, task: str) -> Path:
    """Where the answers to a task lie."""
    return folder / f"{_head(stem, task)}_predictions.jsonl"


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """One JSON object."""
    _write(path, json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def write_predictions(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line, in the order of the data set."""
    _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _head(stem: str, task: str) -> str:
    return f"{stem}_{task.replace('/', '_')}_temp{TEMPERATURE}"


def _write(path: Path, text: str) -> None:
    """Write beside and rename into place. Half of a surrogate pair becomes its JSON escape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(text.encode("utf-8", "backslashreplace"))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
