"""Finding data files and opening them, compressed or not."""

from __future__ import annotations

import difflib
import gzip
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, cast

from sft.errors import DataError

TEXT = ".txt"
"""One document a file. In a folder that holds other data too, such a file is a note to people and is skipped."""

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", TEXT)
COMPRESSIONS = (".gz", ".zst")

METADATA = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
"""Files that describe data sets and hold no rows."""

SAVED_SET = frozenset({"state.json", "dataset_dict.json"})
"""What marks a folder written by `datasets.save_to_disk`."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class Kind(NamedTuple):
    """How a file is written: one of SUFFIXES, and one of COMPRESSIONS or nothing."""

    suffix: str
    compression: str


class Folder(NamedTuple):
    """What a folder holds, in sorted order."""

    files: list[str]
    skipped: list[str]


def kind_of(path: str) -> Kind | None:
    """Return how the file is written, judged by its name; None if no data file is called so."""
    stem, last = os.path.splitext(path.lower())
    compression = last if last in COMPRESSIONS else ""
    suffix = os.path.splitext(stem)[1] if compression else last
    if suffix not in SUFFIXES or (suffix == ".parquet" and compression):
        return None
    return Kind(suffix, compression)


def is_hub_name(path: str) -> bool:
    """Whether a path that does not exist can be the name of a hub data set."""
    return kind_of(path) is None and _HUB_NAME.fullmatch(path) is not None


def is_saved_set(folder: str) -> bool:
    """Whether the folder was written by `datasets.save_to_disk`."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in SAVED_SET)


def list_folder(folder: str) -> Folder:
    """Find all data files under ``folder``; hidden ones and those that are no data are skipped."""
    files: list[str] = []
    skipped: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        skipped += [os.path.join(parent, name) + os.sep for name in folders if name.startswith(".")]
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            is_data = kind_of(name) is not None and name not in METADATA and not name.startswith(".")
            (files if is_data else skipped).append(os.path.join(parent, name))
    notes = [file for file in files if _is_text(file)]
    if len(notes) < len(files):
        files, skipped = [file for file in files if file not in notes], skipped + notes
    return Folder(sorted(files), sorted(skipped))


def _is_text(file: str) -> bool:
    kind = kind_of(file)
    return kind is not None and kind.suffix == TEXT


def _raise(error: OSError) -> None:
    raise DataError(f"{error.filename}: the folder cannot be read: {error.strerror}")


@contextmanager
def open_data(path: str, shown: str) -> Iterator[BinaryIO]:
    """Open a data file for reading bytes, unpacking .gz and .zst. Messages call the file ``shown``."""
    kind = kind_of(path)
    try:
        with _open(path, kind.compression if kind else "", shown) as file:
            yield file
    except EOFError as error:
        raise DataError(f"{shown}: the compressed file is cut off; copy or download it again ({error})") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{shown}: this is not an intact gzip file ({error}); copy it again, or rename it") from error
    except OSError as error:
        raise DataError(f"{shown}: the file cannot be read: {error.strerror or error}") from error


def _open(path: str, compression: str, shown: str) -> BinaryIO:
    if compression == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if compression == ".zst":
        try:
            from sft.data.sources.zst import open_zst
        except ImportError as error:
            raise missing_package(shown, "zstandard", "zstd") from error
        return open_zst(path)
    return open(path, "rb")


def missing_package(shown: str, package: str, extra: str) -> DataError:
    """Describe an optional package that a source needs."""
    return DataError(
        f"{shown}: reading it needs the package {package}, which is not installed: pip install 'sft-kit[{extra}]'"
    )


def no_such_file(path: str, option: str) -> DataError:
    """Describe a file that is not there: which folder is, and which names in it come near."""
    target = os.path.expanduser(path)
    folder = os.path.dirname(target) or "."
    if not os.path.isdir(folder):
        existing = folder
        while existing and not os.path.isdir(existing):
            existing = os.path.dirname(existing)
        return DataError(
            f"{option} {path!r}: there is no folder {folder!r}; what exists is {existing or '.'!r}. "
            f"Paths count from {os.getcwd()!r}"
        )
    names = sorted(name for name in os.listdir(folder) if kind_of(name) or os.path.isdir(os.path.join(folder, name)))
    near = difflib.get_close_matches(os.path.basename(target), names, n=3, cutoff=0.5)
    listed = (
        f"the nearest names there are {', '.join(near)}" if near else f"it holds {', '.join(names[:5]) or 'no data'}"
    )
    return DataError(f"{option} {path!r}: no such file. The folder {folder!r} exists, and {listed}")
