"""Zip archives that came from elsewhere: every entry is checked before one is read, and nothing is unpacked to disk."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from sft.errors import DataError

MAX_ENTRIES = 10_000
MAX_ENTRY_BYTES = 2 << 30
MAX_TOTAL_BYTES = 8 << 30
MAX_RATIO = 200
"""Bytes unpacked for a packed one. LongBench's texts have about 4; deflate can reach 1,032."""

SMALL_BYTES = 1 << 20
"""Below this size the ratio does no harm: short files of one repeated line are honest and pack well."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


@contextmanager
def open_archive(path: str, shown: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive whose entries all pass the checks.

    Raises:
        DataError: not a readable zip, or an entry that is a link, leaves the folder, or unpacks to too much.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive.infolist(), shown)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{shown}: this is not an intact zip file ({error}); download or copy it again") from error
    except OSError as error:
        raise DataError(f"{shown}: the archive cannot be read: {error.strerror or error}") from error


@contextmanager
def open_entry(archive: zipfile.ZipFile, name: str) -> Iterator[BinaryIO]:
    """Read one entry; no more bytes come out than its checked size, and a wrong checksum is an error."""
    with archive.open(name) as file:
        yield cast(BinaryIO, file)


def _check(entries: list[zipfile.ZipInfo], shown: str) -> None:
    if len(entries) > MAX_ENTRIES:
        raise _refused(shown, f"it holds {len(entries)} entries, more than {MAX_ENTRIES}")
    seen: set[str] = set()
    for entry in entries:
        reason = _fault(entry)
        if reason is None and entry.filename in seen:
            reason = "is there twice"
        if reason is not None:
            raise _refused(shown, f"its entry {entry.orig_filename[:120]!r} {reason}")
        seen.add(entry.filename)
    total = sum(entry.file_size for entry in entries)
    if total > MAX_TOTAL_BYTES:
        raise _refused(shown, f"it unpacks to {total:,} bytes, more than {MAX_TOTAL_BYTES:,}")


def _fault(entry: zipfile.ZipInfo) -> str | None:
    """What is wrong with one entry, as the end of a sentence."""
    return _name_fault(entry.orig_filename) or _kind_fault(entry) or _size_fault(entry)


def _name_fault(name: str) -> str | None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ":" in parts[0]:
        return "has an absolute name"
    if ".." in parts:
        return "points out of the archive with '..'"
    return "has a NUL byte in its name" if "\0" in name else None


def _kind_fault(entry: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is no ordinary file"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    return (
        None if entry.compress_type in _METHODS else "is packed in an uncommon way (only stored and deflated are read)"
    )


def _size_fault(entry: zipfile.ZipInfo) -> str | None:
    if entry.file_size > MAX_ENTRY_BYTES:
        return f"unpacks to {entry.file_size:,} bytes, more than {MAX_ENTRY_BYTES:,}"
    if entry.file_size > SMALL_BYTES and entry.file_size > MAX_RATIO * entry.compress_size:
        ratio = entry.file_size // max(entry.compress_size, 1)
        return f"unpacks to {ratio:,} times its size, more than {MAX_RATIO}"
    return None


def _refused(shown: str, reason: str) -> DataError:
    return DataError(
        f"{shown}: the archive is refused: {reason}. An honest copy of the data set has nothing of the kind; fetch it "
        "from its publisher"
    )
