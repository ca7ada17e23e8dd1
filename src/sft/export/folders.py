"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WEIGHT_FILES = (
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "pytorch_model*.bin*",
    "adapter_model.*",
    "adapter_config.json",
)
"""Files that make a loader believe it has found weights; those of an earlier save must not outlive it."""


@contextmanager
def written_whole(folder: Path, *, keep_others: bool = False) -> Iterator[Path]:
    """Give an empty folder to write into; it becomes ``folder`` when the block ends well, and is gone when it fails.

    Args:
        folder: where the files are to be in the end. What was there is replaced.
        keep_others: the folder holds other things too (checkpoints of the run); its files are replaced one by one, and
            weights of an earlier save are removed.
    """
    folder = folder.expanduser().resolve()
    inside = folder.is_dir() and (keep_others or not any(folder.iterdir()))
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = (folder if inside else folder.parent) / f".{folder.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        _open_to_readers(partial)
        if inside:
            _move_files(partial, folder)
        else:
            _replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _open_to_readers(folder: Path) -> None:
    """Give every file the permissions that new files have here; safetensors lets only the owner read."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~umask)


def _move_files(partial: Path, folder: Path) -> None:
    """Weights leave before new ones come, so that a stop in between shows no mixture."""
    for pattern in WEIGHT_FILES:
        for stale in folder.glob(pattern):
            stale.unlink()
    for entry in sorted(partial.iterdir()):
        target = folder / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(entry, target)


def _replace_folder(partial: Path, folder: Path) -> None:
    if not folder.exists():
        os.replace(partial, folder)
        return
    former = folder.parent / f".{folder.name}.former-{os.getpid()}"
    os.replace(folder, former)
    os.replace(partial, folder)
    shutil.rmtree(former)
