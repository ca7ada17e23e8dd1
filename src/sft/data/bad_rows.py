"""The list of rows that cannot be used: a file to work through, where a message names the first few.

One object a line: ``file``, ``line`` (or ``row``, for sources without lines), ``reason``, ``advice``. What a row says
stands nowhere in it: rows may be private, and this file, like a message, is sent around.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sft.data.types import BadRow, Source
from sft.errors import RowError, TooManyBadRows

BAD_ROWS = "bad_rows.jsonl"
LISTED = 100_000
"""Most rows that are listed; further ones are counted. It is about 20 MB."""

Refused = BadRow | RowError


def listed(row: Refused) -> dict[str, Any]:
    """The entry of a row."""
    source = row.source
    where = {"file": source.path, source.unit: source.line} if isinstance(source, Source) else {"file": str(source)}
    return {**where, "reason": row.reason, "advice": row.advice}


def list_bad_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> str:
    """Write the list, and say where it stands; nothing where there is nothing to list, or the disk takes no file."""
    if not rows:
        return ""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows[:LISTED])
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        return ""
    return f"{f'The first {LISTED:,}' if len(rows) >= LISTED else 'All'} of them are listed in {path}."


@contextmanager
def listing_bad_rows(folder: Path, run_folder: Path) -> Iterator[None]:
    """Where too many rows cannot be used, list them: in the folder of the run if there is one, else beside ``folder``.

    Raises:
        TooManyBadRows: saying where.
    """
    try:
        yield
    except TooManyBadRows as error:
        place = run_folder / BAD_ROWS if run_folder.is_dir() else folder.with_suffix(f".{BAD_ROWS}")
        raise TooManyBadRows(f"{error} {list_bad_rows(error.rows, place)}", error.rows) from None
