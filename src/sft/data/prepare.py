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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.bad_rows import BAD_ROWS, list_bad_rows, listing_bad_rows
from sft.data.blocks import cut_into_blocks
from sft.data.cache import CacheEntry, cached
from sft.data.conversations import MoreRows
from sft.data.filling import fill_store
from sft.data.fingerprints import fingerprints
from sft.data.growing import JOURNAL, num_journaled
from sft.data.lanes import Reading
from sft.data.layout import DOCUMENTS, IN_FULL, REPORT, TRAIN
from sft.data.pieces import PieceMaker
from sft.data.prepared import PreparedData, PreparedPart, load_evaluation, load_part
from sft.data.quick import Differs
from sft.data.readings import open_readings
from sft.data.report import explain_nothing_trained
from sft.errors import DataError

__all__ = ["PreparedData", "PreparedPart", "prepare"]


def prepare(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, *, more: MoreRows | None = None, quiet: bool = False
) -> PreparedData:
    """Read, render and measure the data of a config, or find it prepared already.

    Args:
        more: rows of tasks to train on, and what must not be trained on because it will be asked.

    Raises:
        DataError: a source cannot be read, too many rows cannot be used, or no token is left to train.
    """
    entry = prepare_entry(config, tokenizer, fingerprints(config, tokenizer, more), more=more, quiet=quiet)
    return PreparedData(load_part(entry.folder, TRAIN), load_evaluation(entry.folder), entry)


def prepare_entry(
    config: SFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    parts: Mapping[str, str],
    *,
    more: MoreRows | None = None,
    quiet: bool = False,
    window: int | None = None,
) -> CacheEntry:
    """The same, on disk.

    Args:
        parts: fingerprints of it.
        window: somebody trains on so many examples at a time while the rest is prepared. None: nobody looks yet.
    """

    def build(folder: Path) -> None:
        with no_garbage_collection(), listing_bad_rows(folder, Path(config.output_dir)):
            readings = open_readings(config, more)
            fill = partial(fill_all, folder, readings, config, tokenizer, quiet=quiet, window=window)
            fill_or_start_anew(folder, fill, window=window)

    overwrite, keep_refused = config.overwrite_cache, window is not None
    entry = cached(parts, build, cache_dir=config.cache_dir, overwrite=overwrite, keep_refused=keep_refused)
    with suppress(OSError):  # of an attempt that was refused
        (Path(config.output_dir) / BAD_ROWS).unlink(missing_ok=True)
    return entry


def fill_or_start_anew(folder: Path, fill: Callable[[], None], *, window: int | None) -> None:
    """Fill a folder; where a shape turns out not to tell how its rows are written, anew and each row by itself.

    Raises:
        DataError: some of them are trained on already.
    """
    try:
        fill()
    except Differs as error:
        is_read = window is not None and num_journaled(folder / TRAIN) >= window
        start_anew(folder)
        if is_read:
            raise rendered_otherwise(error) from None
        fill()


def fill_all(
    folder: Path,
    readings: Mapping[str, Reading],
    config: SFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    quiet: bool,
    window: int | None,
) -> None:
    """Fill a folder with a store and a report for each part of the data; what is there already is gone on with.

    With ``window`` pieces are no larger, and evaluation data come first, for all of them are needed to begin.

    Raises:
        Differs: see ``render_by_shape``.
    """
    maker = PieceMaker(config, tokenizer, in_full=(folder / IN_FULL).exists(), most_rows=window)
    for name in sorted(readings, reverse=window is None):
        if (folder / name / REPORT).exists():
            continue
        inside = folder / name / DOCUMENTS if config.stage == "pretrain" else folder / name
        report = fill_store(inside, readings[name], maker, quiet=quiet, judge_pieces=window is not None)
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


def rendered_otherwise(error: Differs) -> DataError:
    """Rows were rendered by their shape and trained on, and now one shows that its shape cannot be trusted."""
    return DataError(
        f"stream_preparation = true, and {error} is written otherwise by the chat template than rows like it before, "
        "some of which are trained on already. Start anew with --overwrite_output_dir: every row is then rendered by "
        "itself, from the first on."
    )


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
