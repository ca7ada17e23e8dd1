"""A store that grows on disk, piece by piece, and goes on after a kill where its journal ends.

Each piece is appended to the arrays, then entered into the journal in one line. What stands in the arrays beyond the
last whole line of the journal was being written when the process died, and is cut off; so nothing is counted twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from sft.data.store import PLACES, StoreWriter

JOURNAL = "journal.jsonl"
HEADER_BYTES = 128
KINDS: Mapping[str, type[np.generic]] = {
    "ids": np.int32, "mask": np.uint8, "offsets": np.int64, "origin": np.int32, "line": np.int64, "turn": np.int32,
    "weights": np.float32,
}  # fmt: skip
_ONES = np.ones(1 << 20, np.float32)

Entry = dict[str, Any]


class GrowingStore:
    """Appends pieces to the arrays of a store.

    Args:
        folder: an empty one, or one that a killed process was filling.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.entries: list[Entry] = _read_journal(folder / JOURNAL)
        """What was said of each piece that was appended."""
        self._paths = {tuple(path): number for entry in self.entries for number, path in entry["store"]["new_paths"]}
        last = self.entries[-1]["store"] if self.entries else {}
        self.num_examples = int(last.get("examples", 0))
        self.num_tokens = int(last.get("tokens", 0))
        self._is_weighted = bool(last.get("weighted", False))
        self._files: dict[str, BinaryIO] = {}
        for name in KINDS:
            if name != "weights" or self._is_weighted:
                self._open(name, self._count(name) if self.entries else 0)
        if not self.entries:
            self._files["offsets"].write(np.zeros(1, np.int64).data)

    def append(self, arrays: Mapping[str, npt.NDArray[Any]], paths: Sequence[tuple[str, str]], entry: Entry) -> None:
        """Append one piece.

        Args:
            arrays: as ``StoreWriter.arrays`` has them.
            paths: what its ``origin`` counts.
            entry: what the journal says of it, in JSON values.
        """
        new_paths = [(len(self._paths) + number, path) for number, path in enumerate(_new(paths, self._paths))]
        self._paths |= {path: number for number, path in new_paths}
        numbers = np.array([self._paths[path] for path in paths], np.int32)
        if "weights" in arrays and not self._is_weighted:
            self._is_weighted = True
            self._open("weights", 0)
            self._write_ones(self.num_tokens)
        for name, values in arrays.items():
            if name == "offsets":
                values = values[1:] + self.num_tokens
            elif name == "origin" and len(values):
                values = numbers[values]
            self._files[name].write(np.ascontiguousarray(values, KINDS[name]).data)
        if self._is_weighted and "weights" not in arrays:
            self._write_ones(len(arrays["ids"]))
        self.num_examples += len(arrays["line"])
        self.num_tokens += len(arrays["ids"])
        self._enter(entry, new_paths)

    def finish(self) -> None:
        """Make it a store to be read."""
        for name, file in self._files.items():
            file.seek(0)
            file.write(_header(KINDS[name], self._count(name)))
            file.flush()
        (self.folder / PLACES).write_text(json.dumps(list(self._paths)), encoding="utf-8")

    def close(self) -> None:
        """Close the files; the store can be gone on with."""
        for file in self._files.values():
            file.close()

    def _enter(self, entry: Entry, new_paths: Sequence[tuple[int, tuple[str, str]]]) -> None:
        for file in self._files.values():
            file.flush()
        store = {
            "examples": self.num_examples,
            "tokens": self.num_tokens,
            "weighted": self._is_weighted,
            "new_paths": new_paths,
        }
        self.entries.append(json.loads(json.dumps({**entry, "store": store})))
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(self.entries[-1]) + "\n")

    def _count(self, name: str) -> int:
        """Values in an array so far."""
        if name in ("ids", "mask", "weights"):
            return self.num_tokens
        return self.num_examples + (name == "offsets")

    def _open(self, name: str, count: int) -> None:
        """Open an array to go on behind its first ``count`` values."""
        path = self.folder / f"{name}.npy"
        path.touch()
        os.truncate(path, HEADER_BYTES + count * np.dtype(KINDS[name]).itemsize)
        self._files[name] = path.open("r+b")
        self._files[name].seek(0, os.SEEK_END)

    def _write_ones(self, count: int) -> None:
        for start in range(0, count, len(_ONES)):
            self._files["weights"].write(_ONES[: min(len(_ONES), count - start)].data)


def write_store(folder: Path, examples: StoreWriter) -> None:
    """Write examples as a store of their own."""
    store = GrowingStore(folder)
    store.append(examples.arrays(), examples.paths, {})
    store.finish()
    store.close()
    (folder / JOURNAL).unlink()


def _new(paths: Sequence[tuple[str, str]], known: Mapping[tuple[str, ...], int]) -> list[tuple[str, str]]:
    return [path for path in paths if path not in known]


def _read_journal(path: Path) -> list[Entry]:
    """Its whole lines; a torn last one is taken away."""
    if not path.exists():
        return []
    written = path.read_bytes()
    whole = written[: written.rfind(b"\n") + 1]
    os.truncate(path, len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def num_journaled(folder: Path) -> int:
    """Examples of a store that is being filled."""
    entries = _read_journal(folder / JOURNAL)
    return int(entries[-1]["store"]["examples"]) if entries else 0


def _header(kind: type[np.generic], count: int) -> bytes:
    """What a ``.npy`` file begins with (NumPy enhancement proposal 1, version 1.0), always of the same length."""
    start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    described = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": (count,)}
    return start + repr(described).encode().ljust(HEADER_BYTES - 11) + b"\n"
