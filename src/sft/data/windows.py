"""Windows of training examples: a fixed number of neighbours each, to be read as soon as they are on disk.

Which examples a window holds follows from their order alone, so that it is the same whether all of them are prepared or
not. What is there already is told by the journal of the store that is being filled (``growing.py``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sft.data.cache import folder_beside, is_complete
from sft.data.growing import HEADER_BYTES, JOURNAL, KINDS
from sft.data.layout import IN_FULL, REPORT, TRAIN
from sft.data.report import DataReport
from sft.data.store import PLACES, ExampleStore
from sft.data.writing import agreed_kwargs
from sft.errors import DataError


class Window(ExampleStore):
    """Neighbouring examples of a store, which may still be growing.

    Args:
        first, stop: their numbers; at least one.
        places: what the store's ``origin`` counts.

    Raises:
        FileNotFoundError: the store is not in that folder, or not any more.
    """

    def __init__(self, folder: Path, first: int, stop: int, places: list[tuple[str, str]], *, weighted: bool) -> None:
        self.folder = folder
        offsets = _some(folder, "offsets", first, stop + 1)
        tokens = int(offsets[0]), int(offsets[-1])
        self.offsets = np.array(offsets) - offsets[0]
        self._ids, self._mask = _some(folder, "ids", *tokens), _some(folder, "mask", *tokens)
        self._weights = _some(folder, "weights", *tokens) if weighted else None
        self._origin, self._line, self._turn = (_some(folder, name, first, stop) for name in ("origin", "line", "turn"))
        self._places = places


class Windows:
    """The windows of a folder of prepared data, which may not be complete, nor there at all yet.

    Args:
        folder: where it stands once it is complete.
        size: examples of a window; the last one may have fewer.
        template_kwargs: variables of the template where no answer tells any.
    """

    def __init__(self, folder: Path, size: int, template_kwargs: Mapping[str, Any]) -> None:
        self.folder = folder
        self.size = size
        self.template_kwargs = template_kwargs
        self.is_whole = False
        """Whether no more will come."""
        self._forget()

    def _forget(self) -> None:
        self.num_examples = 0
        """Known so far."""
        self._read_to = 0
        self._is_in_full = False
        self._places: list[tuple[str, str]] = []
        self._is_weighted = False
        self._read, self._made = DataReport(), DataReport()
        self._answer_kwargs: dict[str, None] = {}

    def has(self, number: int) -> bool | None:
        """Whether there is a window of that number, counted from 0; None: not known yet.

        Raises:
            DataError: it is being prepared anew, otherwise than what was read.
        """
        if self._is_full(number):
            return True
        self.look()
        if self._is_full(number):
            return True
        return number * self.size < self.num_examples if self.is_whole else None

    def _is_full(self, number: int) -> bool:
        return (number + 1) * self.size <= self.num_examples

    @property
    def standing(self) -> Path:
        """Where the folder stands now."""
        return self.folder if is_complete(self.folder) else folder_beside(self.folder)

    def read(self, number: int) -> Window:
        """A window that there is."""
        return self._open(number * self.size, min((number + 1) * self.size, self.num_examples))

    def all(self) -> ExampleStore:
        """Every example known so far; at least one."""
        return self._open(0, self.num_examples)

    def _open(self, first: int, stop: int) -> Window:
        for folder in (folder_beside(self.folder), self.folder):  # it is renamed when it is complete
            with suppress(FileNotFoundError):
                return Window(folder / TRAIN, first, stop, self._places, weighted=self._is_weighted)
        raise DataError(
            f"the prepared data in {self.folder} were taken away while they were being trained on. Start the same "
            "command again: it prepares them anew and goes on."
        )

    def look(self) -> None:
        """See what has been prepared meanwhile."""
        if self.is_whole:
            return
        if is_complete(self.folder):
            self._read_whole(self.folder / TRAIN)
            return
        beside = folder_beside(self.folder)
        if (beside / IN_FULL).exists() and not self._is_in_full:
            self._begin_again()
        try:
            with (beside / TRAIN / JOURNAL).open("rb") as journal:
                journal.seek(self._read_to)
                written = journal.read()
        except FileNotFoundError:  # not begun, or about to be renamed
            return
        whole = written[: written.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            self._take_in(json.loads(line))

    def _begin_again(self) -> None:
        if self._is_full(0):
            raise DataError(
                "the data are being prepared anew, each row by itself, while rows that were prepared by their shape "
                "are trained on. Start anew with --overwrite_output_dir."
            )
        self._forget()
        self._is_in_full = True

    def _take_in(self, entry: Mapping[str, Any]) -> None:
        store = entry["store"]
        self.num_examples, self._is_weighted = store["examples"], store["weighted"]
        self._places = [*self._places, *(path for _, path in store["new_paths"])]
        self._read.add(DataReport.from_dict(entry["read"]))
        self._made.add(DataReport.from_dict(entry["made"]))
        self._answer_kwargs |= dict.fromkeys(entry["answer_kwargs"])

    def _read_whole(self, folder: Path) -> None:
        size = os.path.getsize(folder / "offsets.npy") - HEADER_BYTES
        self.num_examples = size // np.dtype(KINDS["offsets"]).itemsize - 1
        self._places = json.loads((folder / PLACES).read_text(encoding="utf-8"))
        self._is_weighted = (folder / "weights.npy").exists()
        self.is_whole = True

    def report(self) -> DataReport:
        """What became of the rows, as far as is known."""
        if self.is_whole:
            return DataReport.from_dict(json.loads((self.folder / TRAIN / REPORT).read_text(encoding="utf-8")))
        report = DataReport()
        for some in (self._read, self._made):
            report.add(DataReport.from_dict(some.to_dict()))
        report.bad_rows = []
        report.generation_kwargs = agreed_kwargs(list(self._answer_kwargs), self.template_kwargs)
        return report


def _some(folder: Path, name: str, first: int, stop: int) -> npt.NDArray[Any]:
    """Values of an array on disk, mapped."""
    kind = np.dtype(KINDS[name])
    begin = HEADER_BYTES + first * kind.itemsize
    return np.memmap(folder / f"{name}.npy", kind, "r", begin, (stop - first,))
