"""Parquet files as rows. Imported only when such a file is read."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow
import pyarrow.parquet

from sft.data.sources.arrow_values import restore_row
from sft.data.types import Row, Source
from sft.errors import DataError

_BATCH_ROWS = 1024


def read_parquet(path: str, shown: str) -> Iterator[Row]:
    """Read rows in file order; messages call the file ``shown``."""
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(restore_row(values), Source(shown, number, "row"))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{shown} row {number + 1}: not readable as parquet: {reason}; copy or write it again"
        ) from error
