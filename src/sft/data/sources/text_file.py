"""A text file as one row: the whole of it is one document."""

from __future__ import annotations

import codecs
from typing import BinaryIO

from sft.data.sources.json_rows import decode_utf8
from sft.data.types import Row, Source


def read_text(file: BinaryIO, path: str) -> Row:
    """The text of a file, untouched but for a byte order mark, in the column ``text``.

    Raises:
        DataError: it is no UTF-8.
    """
    return Row({"text": decode_utf8(file.read().removeprefix(codecs.BOM_UTF8), path, 1)}, Source(path, 1))
