"""Hub data sets, and folders that `datasets` saved, as rows. Imported only when one is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets

from sft.data.sources.arrow_values import restore_row
from sft.data.sources.spec import SourceSpec
from sft.data.types import Row, Source
from sft.errors import DataError
from sft.terminal.screen import SCREEN

_BATCH_ROWS = 1024


def read_set(spec: SourceSpec, folder: str | None) -> Iterator[Row]:
    """Read one split of a hub data set, from the local cache where it is there, or of a folder from `save_to_disk`."""
    shown = _shown(spec)
    found = _load_split(spec, folder).with_format(None)
    untouched = {name for name, feature in found.features.items() if "Json(" in repr(feature)}  # stored as JSON text
    number = 0
    for batch in found.iter(batch_size=_BATCH_ROWS):
        names = list(batch)
        for cells in zip(*batch.values(), strict=True):
            number += 1
            yield Row(restore_row(dict(zip(names, cells, strict=True)), untouched), Source(shown, number, "row"))


def fingerprint_set(spec: SourceSpec, folder: str | None) -> str:
    """Return the name and the fingerprint that `datasets` keeps for what it has loaded."""
    return f"{_shown(spec)} {_load_split(spec, folder)._fingerprint}"


def _load_split(spec: SourceSpec, folder: str | None) -> Any:
    found = _load(spec, folder)
    if not isinstance(found, datasets.DatasetDict):
        return found
    if spec.split not in found:
        raise DataError(f"{spec.path}: there is no split {spec.split!r}; it holds {', '.join(found)}")
    return found[spec.split]


def _load(spec: SourceSpec, folder: str | None) -> Any:
    if not SCREEN.is_live:
        datasets.disable_progress_bars()
    try:
        if folder is not None:
            return datasets.load_from_disk(folder)
        files = {spec.split.partition("[")[0]: list(spec.data_files)} if spec.data_files else None
        return datasets.load_dataset(spec.path, spec.subset, data_files=files, split=spec.split, revision=spec.revision)
    except Exception as error:  # datasets lets through errors of a dozen libraries
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        if folder is not None:
            raise DataError(f"{spec.path}: the saved data set cannot be read: {reason}") from error
        asked = _shown(spec) + (f" at revision {spec.revision!r}" if spec.revision else "")
        raise DataError(
            f"{spec.option} {spec.path!r}: there is no such file or folder here, and as the hub data set {asked} it "
            f"could not be had: {reason}. Check the name, the split and the connection, or give a local path"
        ) from error


def _shown(spec: SourceSpec) -> str:
    return f"{spec.path}:{spec.subset}[{spec.split}]" if spec.subset else f"{spec.path}[{spec.split}]"
