"""Prepared data, kept by the content it was made from.

An entry's name is a hash over everything that decides the result: the bytes of the data files, the template, the
tokenizer, the mask rules, the length rules and the code. Renaming the output folder hits; touching one row misses,
and the message says which part changed.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from filelock import FileLock

from sft.errors import UserError

META = "meta.json"
PARTIAL = ".partial"
KEPT_SECONDS = 7 * 24 * 3600
PREPARED_BEFORE = "the same data, template, tokenizer and rules were prepared before"
CODE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class CacheEntry:
    """A complete folder of prepared data, and how it was come by."""

    folder: Path
    hit: bool
    why: str
    """For people: 'hit' or what changed since the nearest earlier entry."""
    parts: Mapping[str, str]
    """What it was found by."""


def entry_folder(parts: Mapping[str, str], cache_dir: str | None) -> Path:
    """Where prepared data stands, or will stand."""
    return cache_root(cache_dir) / hash_text(json.dumps(dict(sorted(parts.items()))))


def folder_beside(folder: Path) -> Path:
    """Where it stands until it is complete."""
    return Path(f"{folder}{PARTIAL}")


def is_complete(folder: Path) -> bool:
    """Whether all of an entry is there."""
    return (folder / META).exists()


def forget(folder: Path) -> None:
    """Take an entry away, complete or not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder_beside(folder), ignore_errors=True)


def cached(
    parts: Mapping[str, str],
    build: Callable[[Path], None],
    *,
    cache_dir: str | None,
    overwrite: bool,
    keep_refused: bool = False,
) -> CacheEntry:
    """Return the entry for ``parts``, building it first if it is absent.

    ``build`` fills a folder beside the final one, which is renamed into place when it is complete; processes that
    want the same entry at the same time wait for the first. Data that cannot be used takes the folder away; a process
    that is killed, interrupted or out of space leaves it, and the next one that wants the entry gets it to go on with.

    Args:
        parts: name -> fingerprint of everything that decides the content.
        build: writes the content into a folder, which holds nothing or what was written before a kill.
        keep_refused: leave what was written of data that cannot be used: somebody reads it.
    """
    folder = entry_folder(parts, cache_dir)
    root, beside = folder.parent, folder_beside(folder)
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        complete = is_complete(folder)
        if complete and not overwrite:
            return CacheEntry(folder, True, PREPARED_BEFORE, parts)
        if overwrite:
            shutil.rmtree(beside, ignore_errors=True)
        why = "overwrite_cache is set" if complete else _explain_miss(root, parts)
        if beside.exists():
            why = "an earlier preparation of the same was stopped; this one went on where it stood"
        else:
            _forget_old(root)
        beside.mkdir(exist_ok=True)
        try:
            build(beside)
        except UserError:  # other data or options have another folder
            if not keep_refused:
                shutil.rmtree(beside, ignore_errors=True)
            raise
        (beside / META).write_text(json.dumps({"parts": dict(parts)}, indent=1), encoding="utf-8")
        _put_in_place(beside, folder)
    return CacheEntry(folder, False, why, parts)


def _put_in_place(beside: Path, folder: Path) -> None:
    aside = Path(f"{folder}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():  # somebody may be opening its files, which say the same
        os.rename(folder, aside)
    os.rename(beside, folder)
    shutil.rmtree(aside, ignore_errors=True)


def _forget_old(root: Path) -> None:
    """Take away what was left behind long ago and nobody went on with."""
    for partial in root.glob(f"*{PARTIAL}"):
        with suppress(OSError):
            latest = max(path.stat().st_mtime for path in [partial, *partial.rglob("*")])
            if time.time() - latest > KEPT_SECONDS:
                shutil.rmtree(partial)


def cache_root(cache_dir: str | None) -> Path:
    """The cache folder: as asked, else $SFT_CACHE_DIR, else sft-kit in the user's cache folder."""
    if cache_dir or os.environ.get("SFT_CACHE_DIR"):
        return Path(cache_dir or os.environ["SFT_CACHE_DIR"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "sft-kit"


def hash_text(text: str) -> str:
    """128 bits over a text, as 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


def hash_files(paths: Iterable[Path]) -> str:
    """128 bits over the bytes of files, in the order given."""
    digest = xxhash.xxh3_128()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
        digest.update(b"\0end of file\0")
    return digest.hexdigest()


def hash_code() -> str:
    """128 bits over the modules that turn rows into examples, so that a changed rule is a miss."""
    return hash_files(sorted([*CODE.rglob("*.py"), *CODE.rglob("*.jinja")]))


def _explain_miss(root: Path, parts: Mapping[str, str]) -> str:
    """Name what differs from the earlier entry that has most parts in common."""
    nearest: list[str] | None = None
    for meta in root.glob(f"*/{META}"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            earlier: dict[str, Any] = json.loads(meta.read_text(encoding="utf-8"))["parts"]
            changed = [name for name in parts if parts[name] != earlier.get(name)]
            if nearest is None or len(changed) < len(nearest):
                nearest = changed
    if nearest is None or len(nearest) == len(parts):
        return "nothing like it was prepared before"
    return f"changed since the nearest earlier preparation: {', '.join(nearest)}"
