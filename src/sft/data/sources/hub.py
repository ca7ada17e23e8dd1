"""Hub data sets, and folders that `datasets` saved, as rows. Imported only when one is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import datasets

from sft.data.sources.arrow_values import restore_row
from sft.data.sources.spec import SourceSpec
from sft.data.types import Row, Source
from sft.errors import DataError

_BATCH_ROWS = 1024


def read_hub(spec: SourceSpec) -> Iterator[Row]:
    """Read one split of a hub data set, from the local cache where it is there."""
    found = _load(spec, lambda: datasets.load_dataset(spec.path, spec.subset, split=spec.split, revision=spec.revision))
    yield from _read_rows(found, _shown(spec))


def read_saved_set(spec: SourceSpec, folder: str) -> Iterator[Row]:
    """Read a folder written by `save_to_disk`; of several splits the one that is asked for."""
    found = _load(spec, lambda: datasets.load_from_disk(folder))
    if isinstance(found, datasets.DatasetDict):
        if spec.split not in found:
            raise DataError(f"{spec.path}: there is no split {spec.split!r}; it holds {', '.join(found)}")
        found = found[spec.split]
    yield from _read_rows(found, spec.path)


def _load(spec: SourceSpec, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # datasets raises errors of a dozen libraries, most of them undocumented
        asked = _shown(spec) + (f" at revision {spec.revision!r}" if spec.revision else "")
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"data_path {spec.path!r}: there is no such file or folder here, and as the hub data set {asked} it could "
            f"not be had: {reason}. Check the name, the split and the connection, or give a local path"
        ) from error


def _shown(spec: SourceSpec) -> str:
    return f"{spec.path}:{spec.subset}[{spec.split}]" if spec.subset else f"{spec.path}[{spec.split}]"


def _read_rows(found: Any, shown: str) -> Iterator[Row]:
    number = 0
    for batch in found.with_format(None).iter(batch_size=_BATCH_ROWS):
        names = list(batch)
        for cells in zip(*batch.values(), strict=True):
            number += 1
            yield Row(restore_row(dict(zip(names, cells, strict=True))), Source(shown, number, "row"))
