"""First hop: from what `data_path` names to rows.

`parse_sources` reads the option, `list_parts` finds the files behind one source, `read_part` reads one of them, and
`read_rows` reads them all. A row that cannot be read comes as a BadRow in its place; whoever reads decides how many
of those are too many. What breaks a whole file is a DataError.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from sft.data.sources.csv_rows import DELIMITERS, read_csv
from sft.data.sources.files import (
    TEXT,
    is_hub_name,
    is_saved_set,
    kind_of,
    list_folder,
    missing_package,
    no_such_file,
    open_data,
)
from sft.data.sources.fingerprint import hash_file, hash_spec
from sft.data.sources.json_rows import read_json_document, read_json_lines
from sft.data.sources.spec import SourceSpec, check_columns, nearest, parse_sources
from sft.data.sources.splits import choose_files, refuse_slice
from sft.data.sources.text_file import read_text
from sft.data.types import BadRow, Row
from sft.errors import DataError

__all__ = [
    "Part",
    "SourceSpec",
    "check_columns",
    "fingerprint_source",
    "list_parts",
    "nearest",
    "parse_sources",
    "read_part",
    "read_rows",
]


@dataclass(frozen=True, slots=True)
class Part:
    """What is read in one go: a file, a saved data set or a hub data set."""

    shown: str
    """Its name in messages: the path as the user began it, or the hub name."""

    path: str | None
    """The file or folder; None for a hub data set."""

    spec: SourceSpec


def list_parts(spec: SourceSpec) -> tuple[list[Part], list[str]]:
    """Find what a source consists of: its parts in order, and the names of files in a folder that are skipped.

    A path that exists is a file or folder; any other that could be one is the name of a hub data set.
    """
    path = os.path.expanduser(spec.path)
    if os.path.isdir(path):
        if is_saved_set(path):
            return [Part(spec.path, path, spec)], []
        return _list_folder_parts(spec, path)
    if os.path.exists(path):
        if kind_of(path) is None:
            raise DataError(
                f"{spec.option} {spec.path!r}: the name does not say how the file is written. Known endings are .json, "
                ".jsonl, .ndjson, .csv, .tsv and .txt (each also with .gz or .zst behind it) and .parquet; "
                "rename the file"
            )
        if spec.subset:
            raise DataError(f"{spec.option} {spec.path!r}: a file has no subsets, but {spec.subset!r} is asked for")
        refuse_slice(spec.split, spec.path, spec.option)
        return [Part(spec.path, path, spec)], []
    if not is_hub_name(spec.path):
        raise no_such_file(spec.path, spec.option)
    return [Part(spec.path, None, spec)], []


def _list_folder_parts(spec: SourceSpec, path: str) -> tuple[list[Part], list[str]]:
    """The files of the subset and split asked for; a subset is a folder within the folder, as it is on the hub."""
    refuse_slice(spec.split, spec.path, spec.option)
    inside = os.path.join(path, spec.subset) if spec.subset else path
    if not os.path.isdir(inside):
        folders = ", ".join(sorted(entry.name for entry in os.scandir(path) if entry.is_dir())) or "no folder"
        raise DataError(f"{spec.option} {spec.path!r}: there is no subset {spec.subset!r} in it; it holds {folders}")
    found = list_folder(inside)
    if not found.files:
        skipped = ", ".join(os.path.relpath(name, path) for name in found.skipped[:5]) or "nothing"
        raise DataError(f"{spec.option} {spec.path!r}: the folder holds no data file; it holds {skipped}")
    chosen = choose_files(found.files, inside, spec.split)
    left_out = [name for name in found.files if name not in chosen]
    parts = [Part(os.path.join(spec.path, os.path.relpath(name, path)), name, spec) for name in chosen]
    return parts, [os.path.relpath(name, path) for name in [*left_out, *found.skipped]]


def read_rows(spec: SourceSpec) -> Iterator[Row | BadRow]:
    """Read every row of a source, file after file, up to its limit."""
    remaining = spec.limit
    for part in list_parts(spec)[0]:
        for row in read_part(part):
            if remaining == 0:
                return
            yield row
            remaining = None if remaining is None else remaining - 1


def read_part(part: Part) -> Iterator[Row | BadRow]:
    """Read every row of one part."""
    if part.path is None or os.path.isdir(part.path):
        return _read_set(part)
    return _read_file(part.path, part.shown, part.spec.split)


def fingerprint_source(spec: SourceSpec) -> str:
    """Return 32 hex digits over everything that decides the rows: the bytes of each file and what is asked of them.

    Folders and names do not count, except that of a hub data set.
    """
    contents = []
    for part in list_parts(spec)[0]:
        is_file = part.path is not None and os.path.isfile(part.path)
        contents.append(hash_file(part.path, part.shown) if is_file and part.path else _fingerprint_set(part))
    return hash_spec(spec, contents)


def _read_file(path: str, shown: str, split: str) -> Iterator[Row | BadRow]:
    kind = kind_of(path)
    if kind is None:
        raise AssertionError(f"{path} was listed as a data file and is none")
    if kind.suffix == ".parquet":
        try:
            from sft.data.sources.parquet import read_parquet
        except ImportError as error:
            raise missing_package(shown, "pyarrow", "parquet") from error
        yield from read_parquet(path, shown)
        return
    with open_data(path, shown) as file:
        if kind.suffix in DELIMITERS:
            yield from read_csv(file, shown, DELIMITERS[kind.suffix])
        elif kind.suffix == TEXT:
            yield read_text(file, shown)
        elif kind.suffix == ".json":
            yield from read_json_document(file, shown, split)
        else:
            yield from read_json_lines(file, shown)


def _read_set(part: Part) -> Iterator[Row | BadRow]:
    try:
        from sft.data.sources.hub import read_set
    except ImportError as error:
        raise missing_package(part.shown, "datasets", "hub") from error
    return read_set(part.spec, part.path)


def _fingerprint_set(part: Part) -> str:
    try:
        from sft.data.sources.hub import fingerprint_set
    except ImportError as error:
        raise missing_package(part.shown, "datasets", "hub") from error
    return fingerprint_set(part.spec, part.path)
