"""The walk, from files to examples on disk. Read this first.

    Row  ->  Conversation  ->  Example  ->  (fits max_length)  ->  Piece  ->  ExampleStore
    readings.py                making.py                           pieces.py  filling.py

Rows flow through it: what is in memory at a time is one piece, however large the files. Each piece is appended to the
store on disk and entered into its journal, so that a preparation that was killed goes on after its last piece.

It runs before any process group exists and before a model is loaded, once: what it makes is kept by content.
Packing (``pack_examples``) and tensors (``Collator``) come after it, from lengths and flat arrays.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.bad_rows import BAD_ROWS, list_bad_rows
from sft.data.blocks import make_blocks
from sft.data.cache import CacheEntry, cached
from sft.data.conversations import MoreRows
from sft.data.filling import fill_store
from sft.data.fingerprints import fingerprints
from sft.data.growing import JOURNAL, GrowingStore
from sft.data.making import make_renderer
from sft.data.pieces import PieceMaker
from sft.data.quick import Differs
from sft.data.readings import Reading, open_readings
from sft.data.report import DataReport, explain_nothing_trained
from sft.data.store import ExampleStore, StoreWriter
from sft.errors import DataError, TooManyBadRows

__all__ = ["PreparedData", "PreparedPart", "make_renderer", "prepare"]

REPORT = "report.json"
DOCUMENTS = "documents"
IN_FULL = "in_full"
"""Marks a folder whose rows are rendered one by one, because shapes could not be trusted."""

BLOCK_TOKENS = 1 << 24
"""Tokens in blocks that are appended at one go."""


@dataclass(frozen=True)
class PreparedPart:
    """Examples of one part of the data, and what became of its rows."""

    examples: ExampleStore
    report: DataReport


@dataclass(frozen=True)
class PreparedData:
    """Everything training needs of the data."""

    train: PreparedPart
    eval: PreparedPart | None
    cache: CacheEntry


def prepare(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, *, more: MoreRows | None = None, quiet: bool = False
) -> PreparedData:
    """Read, render and measure the data of a config, or find it prepared already.

    Args:
        more: rows of tasks to train on, and what must not be trained on because it will be asked.

    Raises:
        DataError: a source cannot be read, too many rows cannot be used, or no token is left to train.
    """

    def build(folder: Path) -> None:
        with no_garbage_collection():
            readings = open_readings(config, more)
            try:
                fill_all(folder, readings, config, tokenizer, quiet=quiet)
            except Differs:
                start_anew(folder)
                fill_all(folder, readings, config, tokenizer, quiet=quiet)

    def build_or_list(folder: Path) -> None:
        try:
            build(folder)
        except TooManyBadRows as error:
            run_folder = Path(config.output_dir)
            place = run_folder / BAD_ROWS if run_folder.is_dir() else folder.with_suffix(f".{BAD_ROWS}")
            raise TooManyBadRows(f"{error} {list_bad_rows(error.rows, place)}", error.rows) from None

    parts = fingerprints(config, tokenizer, more)
    entry = cached(parts, build_or_list, cache_dir=config.cache_dir, overwrite=config.overwrite_cache)
    with suppress(OSError):  # of an attempt that was refused
        (Path(config.output_dir) / BAD_ROWS).unlink(missing_ok=True)
    has_eval = (entry.folder / "eval").is_dir()
    return PreparedData(_load(entry, "train"), _load(entry, "eval") if has_eval else None, entry)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """While open, objects are freed by their count alone. Searching millions of rows for cycles takes a third of it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def fill_all(
    folder: Path, readings: Mapping[str, Reading], config: SFTConfig, tokenizer: PreTrainedTokenizerBase, *, quiet: bool
) -> None:
    """Fill a folder with a store and a report for each part of the data; what is there already is gone on with.

    Raises:
        Differs: see ``render_by_shape``.
    """
    maker = PieceMaker(config, tokenizer, in_full=(folder / IN_FULL).exists())
    for name, reading in readings.items():
        if (folder / name / REPORT).exists():
            continue
        inside = folder / name / DOCUMENTS if config.stage == "pretrain" else folder / name
        report = fill_store(inside, reading, maker, quiet=quiet)
        if config.stage == "pretrain":
            cut_into_blocks(inside, folder / name, config, report)
        if not report.trained_tokens:
            raise DataError(
                f"nothing to train in the {name} data: {explain_nothing_trained(report, config.max_length)}"
            )
        list_bad_rows(report.bad_rows, folder / name / BAD_ROWS)
        report.bad_rows = []
        (folder / name / REPORT).write_text(json.dumps(report.to_dict()), encoding="utf-8")
        (folder / name / JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(folder / name / DOCUMENTS, ignore_errors=True)
    (folder / IN_FULL).unlink(missing_ok=True)


def start_anew(folder: Path) -> None:
    """Take away what was rendered by shape, and note that shapes cannot be trusted here."""
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / IN_FULL).touch()


def cut_into_blocks(documents: Path, folder: Path, config: SFTConfig, report: DataReport) -> None:
    """Stage pretrain: documents on disk -> blocks on disk. Cut anew from the first, if it was killed."""
    (folder / JOURNAL).unlink(missing_ok=True)
    store = GrowingStore(folder)
    examples, trained = StoreWriter(), 0
    for example in make_blocks(ExampleStore(documents), config, report):
        examples.add(example)
        trained += example.num_trained_tokens
        if examples.num_tokens >= BLOCK_TOKENS:
            store.append(examples.arrays(), examples.paths, {})
            examples = StoreWriter()
    store.append(examples.arrays(), examples.paths, {})
    store.finish()
    store.close()
    report.examples, report.tokens, report.trained_tokens = store.num_examples, store.num_tokens, trained


def _load(entry: CacheEntry, name: str) -> PreparedPart:
    folder = entry.folder / name
    values: Mapping[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return PreparedPart(ExampleStore(folder), DataReport.from_dict(dict(values)))
