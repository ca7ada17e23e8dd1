"""LongBench's rows: from a folder, a zip, a file of rows, or the hub's `data.zip`.

The hub's data set is a script with an archive beside it. `datasets` 4 runs no scripts, so the archive is read as it is.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence

from sft.data.types import Row
from sft.errors import DataError
from sft.tasks.fields import number_field, text_field, texts_field
from sft.tasks.longbench import LongBenchTask
from sft.tasks.options import LONGBENCH_VARIABLE
from sft.tasks.sources.archive import open_archive, open_entry
from sft.tasks.sources.rows import read_file, read_lines
from sft.tasks.task import TaskExample

REPOSITORY = "zai-org/LongBench"
ARCHIVE = "data.zip"
_INSTEAD = f"download it elsewhere and give its folder or the zip as --longbench_dir or {LONGBENCH_VARIABLE}"


def read_longbench(place: str | None, task: LongBenchTask) -> tuple[TaskExample, ...]:
    """The rows of one subset, in the order of the file.

    Raises:
        DataError: the place cannot be read, does not hold the subset, or holds a row that is not whole.
    """
    name = task.subset.name + ("_e" if task.by_length else "")
    rows = [_example(row, task, number) for number, row in enumerate(_find_rows(place, name))]
    if not rows:
        raise _missing(name, place or f"{REPOSITORY}/{ARCHIVE}", "that file without a row")
    return tuple(rows)


def _find_rows(place: str | None, name: str) -> Iterator[Row]:
    if place is None:
        from sft.tasks.sources.hub import fetch_file

        return _from_archive(fetch_file(REPOSITORY, ARCHIVE, instead=_INSTEAD), f"{REPOSITORY}/{ARCHIVE}", name)
    path = os.path.expanduser(place)
    if os.path.isdir(path):
        return _from_folder(path, place, name)
    if not os.path.exists(path):
        raise DataError(
            f"longbench_dir {place!r}: there is no such folder or file. It is a folder with SUBSET.jsonl files or "
            f"{ARCHIVE}, or that zip, or one .jsonl file; paths count from {os.getcwd()!r}"
        )
    if path.lower().endswith(".zip") or zipfile.is_zipfile(path):
        return _from_archive(path, place, name)
    return _from_rows(path, place, name)


def _from_folder(folder: str, shown: str, name: str) -> Iterator[Row]:
    for parent in (folder, os.path.join(folder, "data")):
        path = os.path.join(parent, f"{name}.jsonl")
        if os.path.isfile(path):
            return read_file(path)
    archive = os.path.join(folder, ARCHIVE)
    if os.path.isfile(archive):
        return _from_archive(archive, os.path.join(shown, ARCHIVE), name)
    held = sorted(entry.removesuffix(".jsonl") for entry in os.listdir(folder) if entry.endswith(".jsonl"))
    raise _missing(name, shown, _listed(held))


def _from_archive(path: str, shown: str, name: str) -> Iterator[Row]:
    with open_archive(path, shown) as archive:
        names = [entry for entry in archive.namelist() if entry.split("/")[-1] == f"{name}.jsonl"]
        entry = min(names, key=len, default=None)
        if entry is None:
            held = sorted(file.split("/")[-1].removesuffix(".jsonl") for file in archive.namelist() if file[-1] != "/")
            raise _missing(name, shown, _listed(held))
        with open_entry(archive, entry) as file:
            yield from read_lines(file, f"{shown}:{entry}")


def _from_rows(path: str, shown: str, name: str) -> Iterator[Row]:
    """Rows of one file that name their subset; a file whose rows do not is the subset it is called after."""
    is_named_so = os.path.basename(path).split(".")[0] == name
    held: set[str] = set()
    for row in read_file(path):
        subset = row.values.get("dataset", name if is_named_so else None)
        held.add(str(subset))
        if subset == name:
            yield row
    if name not in held:
        raise _missing(name, shown, f"rows of {_listed(sorted(held))}")


def _example(row: Row, task: LongBenchTask, number: int) -> TaskExample:
    values, source = row.values, row.source
    inputs = {
        "context": text_field(values, ("context",), source),
        "input": text_field(values, ("input", "question"), source),
    }
    return TaskExample(
        id=str(values.get("_id", f"{task.subset.name}-{number}")),
        inputs=inputs,
        references=texts_field(values, ("answers",), source),
        classes=task.classes_of(values, source),
        length=number_field(values, "length", source, required=task.by_length),
        source=source,
    )


def _missing(name: str, shown: str, held: str) -> DataError:
    return DataError(
        f"longbench: the subset {name!r} is asked for, but {shown} does not hold it; it holds {held}. Add {name}.jsonl "
        "there, give another --longbench_dir, or leave the subset out"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:30]) or "no .jsonl file"
