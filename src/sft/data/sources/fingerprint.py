"""What a source contained, as a short text that changes when it does."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict

import xxhash

from sft.data.sources.spec import SourceSpec
from sft.errors import DataError

_CHUNK_BYTES = 1 << 20


def hash_file(path: str, shown: str) -> str:
    """Return the name of a file and 128 bits over its bytes; the name says how it is read."""
    digest = xxhash.xxh3_128()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{shown}: the file cannot be read: {error.strerror or error}") from error
    return f"{os.path.basename(path)} {digest.hexdigest()}"


def hash_spec(spec: SourceSpec, contents: Sequence[str]) -> str:
    """Return 128 bits over what was found and how much of it is asked for."""
    asked = {**asdict(spec), "path": None, "subset": None, "revision": None}  # contents tell these
    del asked["option"]  # a name for messages
    return xxhash.xxh3_128_hexdigest(json.dumps([asked, list(contents)], sort_keys=True).encode())
