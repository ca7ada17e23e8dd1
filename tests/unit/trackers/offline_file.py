"""Reads the file of an offline W&B run: records of W&B's own protocol in LevelDB's log format.

The format is LevelDB's (doc/log_format.md in its repository): blocks of 32 KiB with chunks of checksum (4 bytes),
length (2), kind (1: whole, 2: first, 3: middle, 4: last) and data; before the first one W&B writes seven bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER, OPENING = 32768, 7, 7


def chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = OPENING
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        if not kind:
            return
        yield kind, data[place + HEADER : place + HEADER + length]
        place += HEADER + length


def records(path: Path) -> Iterator[Any]:
    """Every record of a .wandb file."""
    from wandb.proto import wandb_internal_pb2 as protocol

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    whole = b""
    for kind, part in chunks(data):
        whole += part
        if kind in (1, 4):
            record = protocol.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def rows(path: Path) -> list[dict[str, Any]]:
    """What was logged, a row a step."""
    return [
        {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records(path)
        if record.WhichOneof("record_type") == "history"
    ]


def config(path: Path) -> dict[str, Any]:
    """The configuration, as it is in the end."""
    found: dict[str, Any] = {}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind in ("run", "config"):
            updates = record.run.config.update if kind == "run" else record.config.update
            found |= {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in updates}
    return found
