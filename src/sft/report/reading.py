"""A run folder -> a ``RunStory``. Missing and half-written files are told of, never guessed at."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from sft.errors import DataError
from sft.evaluation.history import HISTORY, EvaluationHistory
from sft.report.answers import read_answers
from sft.report.fitting import fit_record, fit_summary
from sft.report.names import BEST, CHECKPOINT, INCIDENTS, MANIFEST, METRICS, QUESTIONS, RECORD, SUMMARY
from sft.report.own_questions import read_own_questions
from sft.report.story import Logged, Mark, RunStory, Series

NO_FIGURES = ("step", "epoch", "time")
WANTED = (RECORD, METRICS, SUMMARY)
"""Files that every run has; one of an earlier version lacks the last."""


def read_runs(folders: Sequence[Path]) -> list[RunStory]:
    """The stories of some run folders, each under a name of its own.

    Raises:
        DataError: a folder is not there, or no run.
    """
    names = name_apart([folder.absolute() for folder in folders])
    return [read_run(folder, name) for folder, name in zip(folders, names, strict=True)]


def name_apart(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, and as many before it as tell them apart; of a single one the last two."""
    for depth in range(1 if len(folders) > 1 else 2, max((len(folder.parts) for folder in folders), default=1) + 2):
        names = ["/".join(part for part in folder.parts[-depth:] if part != folder.anchor) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def read_run(folder: Path, name: str | None = None) -> RunStory:
    """What a run folder tells.

    Raises:
        DataError: it is not there, or holds neither ``run.json`` nor ``metrics.jsonl``.
    """
    if not (folder / RECORD).is_file() and not (folder / METRICS).is_file():
        what = "there is no such folder" if not folder.is_dir() else f"it holds neither {RECORD} nor {METRICS}"
        raise DataError(f"{folder} is no run folder: {what}. Name the output_dir of a training.")
    unread: list[str] = []
    record = fit_record(read_object(folder / RECORD, unread), unread, RECORD)
    history = _read_history(folder, unread)
    return RunStory(
        folder=folder,
        name=name or folder.absolute().name,
        record=record,
        logged=read_logged(folder / METRICS, unread),
        history=history,
        marks=tuple(
            sorted([*_checkpoints(folder), *_resumes(record), *_incidents(folder, unread)], key=lambda mark: mark.step)
        ),
        answers=(
            *read_answers(folder, record, history, _questions(folder, unread)),
            *read_own_questions(folder, history, unread),
        ),
        data=fit_summary(read_object(folder / SUMMARY, unread), unread, SUMMARY) or None,
        best_kept=next((name for name in BEST if (folder / name).is_dir()), None),
        missing=tuple(name for name in WANTED if not (folder / name).is_file()),
        unread=tuple(unread),
    )


def read_object(path: Path, unread: list[str]) -> dict[str, Any]:
    """A JSON object; empty where there is none, and noted where it cannot be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        unread.append(f"{path.name}: {error}")
        return {}
    if not isinstance(value, dict):
        unread.append(f"{path.name}: it holds no object")
        return {}
    return value


def read_lines(path: Path, unread: list[str]) -> Iterator[dict[str, Any]]:
    """The objects of a file with one a line; lines that are none are counted and noted."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        unread.append(f"{path.name}: {error}")
        return
    broken, numbers = 0, text.split("\n")
    for line in numbers:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            yield value
        else:
            broken += 1
    if broken:
        ends = "" if text.endswith("\n") else "; the last line is half written, as a kill leaves it"
        unread.append(f"{path.name}: {broken} {'line' if broken == 1 else 'lines'} could not be read{ends}")


def read_logged(path: Path, unread: list[str]) -> Logged:
    """Every figure of ``metrics.jsonl`` over the steps it was logged at."""
    series: dict[str, Series] = {}
    times: list[float] = []
    lines, stepless, last_step, last_epoch = 0, 0, None, None
    for entry in read_lines(path, unread):
        step = entry.get("step")
        if not _is_number(step):
            stepless += 1
            continue
        lines += 1
        last_step = max(int(step), last_step or 0)
        if _is_number(entry.get("epoch")):
            last_epoch = float(entry["epoch"])
        if _is_number(entry.get("time")):
            times.append(float(entry["time"]))
        for name, value in entry.items():
            if name in NO_FIGURES or (type(value) is not float and type(value) is not int):
                continue
            found = series.get(name)
            if found is None:
                found = series[name] = Series([], [])
            found.steps.append(step)
            found.values.append(value if math.isfinite(value) else None)
    if stepless:
        unread.append(f"{path.name}: lines without their step are left out: {stepless}")
    return Logged(
        series=series,
        lines=lines,
        last_step=last_step,
        last_epoch=last_epoch,
        first_time=times[0] if times else None,
        last_time=times[-1] if times else None,
    )


def _read_history(folder: Path, unread: list[str]) -> EvaluationHistory:
    try:
        return EvaluationHistory.read(folder)
    except (DataError, OSError, UnicodeDecodeError) as error:
        unread.append(f"{HISTORY}: {error}")
        return EvaluationHistory()


def _checkpoints(folder: Path) -> Iterator[Mark]:
    """Checkpoints that are there now; older ones may have made place for them."""
    for path in folder.iterdir() if folder.is_dir() else ():
        named = CHECKPOINT.fullmatch(path.name)
        if named is None:
            continue
        try:
            files = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"].values()
            size = f"{sum(int(one['size']) for one in files) / 1e6:,.1f} MB in {len(files)} files"
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            size = f"without a {MANIFEST}: not complete"
        yield Mark(step=int(named[1]), kind="checkpoint", text=f"{path.name}: {size}")


def _resumes(record: Mapping[str, Any]) -> Iterator[Mark]:
    starts = record.get("starts")
    for start in starts if isinstance(starts, list) else ():
        if isinstance(start, dict) and _is_number(start.get("step")) and start["step"]:
            when = start.get("time")
            yield Mark(step=int(start["step"]), kind="resume", text=f"gone on from step {start['step']} ({when})")


def _incidents(folder: Path, unread: list[str]) -> Iterator[Mark]:
    for line in read_lines(folder / INCIDENTS, unread):
        if not _is_number(step := line.get("step")):
            unread.append(f"{INCIDENTS}: a line without its step is left out")
            continue
        rows = rows if isinstance(rows := line.get("rows"), list) else []
        figures = [
            str(value) if name == "why" else f"{name} {value}"
            for name, value in line.items()
            if name not in ("step", "kind", "rows", "num_rows")
        ]
        yield Mark(
            step=int(step),
            kind=str(line.get("kind", "incident")),
            text=", ".join(figures),
            rows=tuple(str(row) for row in rows),
            num_rows=int(count) if _is_number(count := line.get("num_rows")) else len(rows),
        )


def _questions(folder: Path, unread: list[str]) -> dict[tuple[str, str], str]:
    """(task, id) -> what was asked."""
    return {
        (str(line.get("task")), str(line.get("id"))): str(line.get("question", ""))
        for line in read_lines(folder / QUESTIONS, unread)
    }


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
