"""``manifest.json``: size and hash of every file of a checkpoint. It is what makes a folder a checkpoint.

    {"files": {"model.safetensors": {"size": 123, "xxh3_128": "..."}, ...}, "format": 1, "seal": "...", "step": 5}

``seal`` is the hash of the manifest without it. The hashes find damage, not intent: who can write to the folder can
also write a new manifest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash

from sft.training.checkpoints.disk import sync_file
from sft.training.checkpoints.layout import MANIFEST, step_of

FORMAT = 1
BLOCK = 1 << 20


@dataclass(frozen=True)
class FileSeal:
    """What a file must still be."""

    size: int
    xxh3_128: str


def seal_file(path: Path) -> FileSeal:
    """Size and hash of a file as it is now."""
    digest, size, block = xxhash.xxh3_128(), 0, bytearray(BLOCK)
    view = memoryview(block)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(view[:count])
            size += count
    return FileSeal(size, digest.hexdigest())


def files_of(folder: Path) -> list[str]:
    """Every file below a folder, by its path in it, without the manifest."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in (path.relative_to(folder).as_posix() for path in found) if name != MANIFEST)


def write_manifest(folder: Path, step: int, files: Mapping[str, FileSeal]) -> None:
    """Write it, and wait until it is on the disk."""
    body = {"files": {name: asdict(seal) for name, seal in files.items()}, "format": FORMAT, "step": step}
    path = folder / MANIFEST
    path.write_text(_written({**body, "seal": _seal_of(body)}), encoding="utf-8")
    sync_file(path)


def damage(folder: Path, *, hashes: bool = True) -> list[str]:
    """What is wrong with a checkpoint, one line a file; empty for a valid one.

    Args:
        hashes: read every byte; else only sizes are compared.
    """
    try:
        manifest = _read(folder)
    except (OSError, ValueError) as error:
        return [str(error)]
    if manifest["step"] != step_of(folder):
        return [f"{MANIFEST} is of step {manifest['step']}: the folder was renamed or filled by hand"]
    found = (_damage_of(folder / name, seal, hashes=hashes) for name, seal in manifest["files"].items())
    return [f"{name} {what}" for name, what in zip(manifest["files"], found, strict=True) if what]


def is_sealed(folder: Path) -> bool:
    """Whether a folder was once completed: it has a manifest. Says nothing of damage."""
    return (folder / MANIFEST).is_file()


def _damage_of(path: Path, seal: Mapping[str, Any], *, hashes: bool) -> str | None:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != seal["size"]:
        return f"has {size:,} bytes instead of {seal['size']:,}"
    if not hashes:
        return None
    try:
        return None if seal_file(path).xxh3_128 == seal["xxh3_128"] else "has other contents than were written"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"it has no {MANIFEST}: it was not completed, or something else wrote it")
    text = path.read_bytes()
    try:
        manifest = json.loads(text)
        body = {name: value for name, value in manifest.items() if name != "seal"}
        whole = manifest["seal"] == _seal_of(body) and _written(manifest).encode() == text
    except (ValueError, KeyError, AttributeError, TypeError):
        whole = False
    if not whole:
        raise ValueError(f"{MANIFEST} has other contents than were written")
    if body["format"] != FORMAT:
        raise ValueError(f"{MANIFEST} is of format {body['format']}; this version of sft-kit reads {FORMAT}")
    return body


def _seal_of(body: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128(_written(body).encode()).hexdigest()


def _written(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"
