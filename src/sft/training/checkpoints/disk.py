"""Files and folders that are on the disk when a function returns, and never half there under their own name."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from sft.training.launch import warn

_complained: set[Path] = set()
"""Files that lines were lost of."""


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk. Windows opens no folders and needs no such call."""
    if os.name != "nt":
        sync_file(path)


def write_whole(path: Path, text: str) -> None:
    """Replace a file by one with this text; a reader, and the next run after a kill, see the old one or the new."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file of notes. A disk that does not take it is said once a file; half a line is taken back."""
    try:
        with path.open("ab", buffering=0) as file:
            end = file.tell()
            data = line.encode() + b"\n"
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                with suppress(OSError):
                    file.truncate(end)
                raise
    except OSError as error:
        if path not in _complained:
            _complained.add(path)
            warn(f"{path} could not be written to: {error.strerror}. Training goes on without these lines.")


def move_into_place(folder: Path, place: Path) -> None:
    """Give a folder its name. It is there for good, or not at all, when power fails."""
    os.rename(folder, place)
    sync_folder(place.parent)


def remove_folder(folder: Path, trash: Path) -> None:
    """Take a folder away: under another name first, so that a kill leaves nothing that looks whole."""
    if trash.exists():
        shutil.rmtree(trash)
    move_into_place(folder, trash)
    shutil.rmtree(trash, ignore_errors=True)  # what stays is taken by the next run
