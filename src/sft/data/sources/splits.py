"""Which files of a folder belong to the split asked for, judged by their names as `datasets` judges them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from sft.errors import DataError

SPLIT_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words in a file's or folder's name that say which split it is."""

_BETWEEN_WORDS = re.compile(r"[-._ 0-9]+")


def choose_files(files: Sequence[str], folder: str, split: str) -> list[str]:
    """Return the files of one split, in their order.

    A folder whose files name no split is all training data. One that names others only is read whole for ``train``,
    the split that is asked for when nobody says anything.

    Raises:
        DataError: another split was asked for, and no file is of it.
    """
    asked = _known_split([split.lower()]) or split.lower()
    found = {file: split_of(os.path.relpath(file, folder)) for file in files}
    chosen = [file for file in files if found[file] == asked]
    if not chosen and asked == "train":
        chosen = [file for file in files if found[file] is None] or list(files)
    elif not chosen:
        chosen = [file for file in files if asked in os.path.relpath(file, folder).lower()]
    if not chosen:
        names = ", ".join(os.path.relpath(file, folder) for file in files[:5])
        raise DataError(f"{folder}: no file belongs to the split {split!r}; there are {names}. Choose another split")
    return chosen


def split_of(path: str) -> str | None:
    """Return the split that a relative path names, the file's own name first; None where it names none."""
    for part in reversed(path.lower().split(os.sep)):
        split = _known_split(_BETWEEN_WORDS.split(part))
        if split is not None:
            return split
    return None


def refuse_slice(split: str, shown: str, option: str) -> None:
    """Refuse `train[:100]`, which only `datasets` understands.

    Raises:
        DataError: the split is a slice.
    """
    if "[" in split:
        raise DataError(
            f"{option} {shown!r}: the split {split!r} is of hub data sets only; of files, take the first rows with "
            f"limit: {option.partition(' ')[0]}: [{{path: {shown}, limit: 100}}]"
        )


def _known_split(words: Sequence[str]) -> str | None:
    return next((split for word in words for split, known in SPLIT_WORDS.items() if word in known), None)
