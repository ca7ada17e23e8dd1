"""QMSum's own files: one meeting a line, with the queries asked about it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from sft.data.types import Row
from sft.errors import DataError
from sft.tasks.fields import text_field
from sft.tasks.options import QMSUM_VARIABLE
from sft.tasks.sources.rows import read_file
from sft.tasks.task import TaskExample

SPLITS = ("train", "val", "test")
_FOLDERS = (".", "jsonl", os.path.join("data", "ALL", "jsonl"))
"""Where the files lie: in the folder itself, or as in a copy of the authors' repository."""


def read_qmsum(folder: str | None, split: str) -> tuple[TaskExample, ...]:
    """One example a query, general queries of a meeting before specific ones; the context as in LongBench.

    Raises:
        DataError: no such file, or a meeting that is not whole.
    """
    path = _find(folder, split)
    examples = tuple(
        example for number, row in enumerate(read_file(path)) for example in _meeting(row, f"qmsum-{split}-{number}")
    )
    if not examples:
        raise DataError(f"{path}: the file holds no query; copy QMSum's {split}.jsonl again")
    return examples


def _find(folder: str | None, split: str) -> str:
    if folder is None:
        raise DataError(
            f"qmsum: the split {split!r} is asked for, and it is not on the hub in a form that can be read. Give the "
            f"folder with {split}.jsonl as --qmsum_dir or {QMSUM_VARIABLE}"
        )
    for inner in _FOLDERS:
        path = os.path.normpath(os.path.join(os.path.expanduser(folder), inner, f"{split}.jsonl"))
        if os.path.isfile(path):
            return path
    raise DataError(
        f"qmsum_dir {folder!r}: there is no {split}.jsonl in it. It is the folder with QMSum's "
        f"{', '.join(f'{name}.jsonl' for name in SPLITS)}; paths count from {os.getcwd()!r}"
    )


def _meeting(row: Row, name: str) -> Iterator[TaskExample]:
    turns = _dicts(row, "meeting_transcripts")
    context = "\n".join(f"{_text(turn, 'speaker', row)}: {_text(turn, 'content', row)}" for turn in turns)
    queries = [*_dicts(row, "general_query_list"), *_dicts(row, "specific_query_list")]
    for number, query in enumerate(queries):
        yield TaskExample(
            id=f"{name}-{number}",
            inputs={"context": context, "input": _text(query, "query", row)},
            references=(_text(query, "answer", row),),
            source=row.source,
        )


def _dicts(row: Row, key: str) -> list[Mapping[str, Any]]:
    found = row.values.get(key)
    if not isinstance(found, list) or not all(isinstance(entry, Mapping) for entry in found):
        raise DataError(
            f"{row.source}: a meeting of QMSum has a list of objects as {key!r}; this row has {str(found)[:60]!r}"
        )
    return found


def _text(values: Mapping[str, Any], key: str, row: Row) -> str:
    return text_field(values, (key,), row.source)
