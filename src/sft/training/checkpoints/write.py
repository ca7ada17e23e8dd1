"""A checkpoint on its way to the disk: written beside, hashed, synced, and given its name at the very end."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sft.training.checkpoints.caught import TensorFile
from sft.training.checkpoints.disk import move_into_place, sync_file, sync_folder
from sft.training.checkpoints.layout import UNFINISHED, checkpoint_folder
from sft.training.checkpoints.manifest import FileSeal, files_of, seal_file, write_manifest
from sft.training.checkpoints.rotate import make_place
from sft.training.checkpoints.tensor_file import write_tensors

WRITERS = 2
"""Files that are written at the same time."""


@dataclass
class Draft:
    """A checkpoint that does not count yet."""

    output_dir: Path
    step: int
    tensor_files: list[TensorFile] = field(default_factory=list)
    """Written when the draft is completed."""

    @property
    def folder(self) -> Path:
        """Where it grows: hidden, in the run folder, so that its name can be changed in one go."""
        return self.output_dir / f"{UNFINISHED}{self.step}"

    @property
    def place(self) -> Path:
        """Where it will stand."""
        return checkpoint_folder(self.output_dir, self.step)

    def begin(self) -> None:
        """Make an empty folder."""
        self.discard()
        self.folder.mkdir(parents=True)

    def discard(self) -> None:
        """Leave nothing of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def complete(draft: Draft, others: dict[str, FileSeal] | None = None) -> None:
    """Write what is left, seal every file, and let the checkpoint count.

    Args:
        others: the files that lie there, where they are sealed already; by default done here.

    Raises:
        OSError: the disk did not take it; what counted before still does.
    """
    folder = draft.folder
    names = files_of(folder) if others is None else []
    with ThreadPoolExecutor(WRITERS, "seal") as helpers:  # while one waits for the disk, the other hashes and copies
        written = {
            file.path.relative_to(folder).as_posix(): helpers.submit(
                write_tensors, file.path, file.tensors, file.metadata
            )
            for file in draft.tensor_files
        }
        rest = helpers.submit(seal_files, folder, names)
        files = (others or {}) | rest.result() | {name: seal.result() for name, seal in written.items()}
    write_manifest(folder, draft.step, dict(sorted(files.items())))
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(path)
    replaced = make_place(draft.place)
    move_into_place(folder, draft.place)
    if replaced is not None:
        shutil.rmtree(replaced, ignore_errors=True)


def seal_files(folder: Path, names: Sequence[str]) -> dict[str, FileSeal]:
    """Hash files and wait until they are on the disk."""
    sealed = {}
    for name in names:
        sealed[name] = seal_file(folder / name)
        sync_file(folder / name)
    return sealed
