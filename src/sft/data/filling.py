"""From a reading to a store on disk, piece by piece, in this process or in several."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

from sft.data.account import Account
from sft.data.growing import GrowingStore
from sft.data.lanes import Reading
from sft.data.pieces import Piece, PieceMaker
from sft.data.progress import Progress
from sft.data.report import DataReport
from sft.data.workers import Job, can_be_sent, pieces_by_workers

MOST_WORKERS = 8
LANES_EACH = 4
"""For processes beside this one. On two cores, this one and its threads for encoding leave hardly anything over."""


def fill_store(
    folder: Path, reading: Reading, maker: PieceMaker, *, quiet: bool, judge_pieces: bool = False
) -> DataReport:
    """Prepare all rows of a reading that the store in ``folder`` does not have yet, and account for every row.

    Args:
        judge_pieces: end before the piece with which too many rows are unusable, not when all are read.

    Raises:
        DataError: more rows are unusable than ``max_bad_rows``, or none became a conversation.
        Differs: see ``render_by_shape``.
    """
    store = GrowingStore(folder)
    account = Account(reading)
    for entry in store.entries:
        account.add(entry)
    progress = Progress(reading, quiet=quiet)
    try:
        for piece in pieces_left(folder, reading, maker, account, progress):
            if judge_pieces:
                account.judge(piece, maker.config.max_bad_rows)
            store.append(piece.arrays, piece.paths, piece.entry())
            account.add(store.entries[-1])
            gc.collect(0)  # no collection comes by itself meanwhile
        report = account.close(max_bad_rows=maker.config.max_bad_rows, template_kwargs=maker.renderer.template_kwargs)
        store.finish()
    finally:
        store.close()
        progress.close()
    return report


def pieces_left(
    folder: Path, reading: Reading, maker: PieceMaker, account: Account, progress: Progress
) -> Iterator[Piece]:
    """The pieces that come after those of the account, from this process or from several."""
    first, skip = account.lane, account.last_row
    num_workers = count_workers(maker.config.preparation_workers, len(reading.lanes) - first)
    if num_workers > 1 and not can_be_sent(maker.tokenizer):
        num_workers = 1
    for number in range(first, len(reading.lanes)):
        skipped = skip if number == first else 0
        if num_workers > 1 and not skipped:
            yield from pieces_from(folder, reading, maker, number, num_workers, progress)
            return
        progress.begin(number, skipped)
        bad = account.read.rejected.total()
        yield from maker.pieces_of(reading.lanes[number], number, skip=skipped, bad_before=bad, count=progress.count)


def pieces_from(
    folder: Path, reading: Reading, maker: PieceMaker, first: int, num_workers: int, progress: Progress
) -> Iterator[Piece]:
    """The same from several processes."""
    threads = max(1, (os.cpu_count() or 1) // num_workers)
    job = Job(maker.config, maker.tokenizer, maker.in_full, reading.lanes, threads, maker.most_rows)
    for piece in pieces_by_workers(folder, job, first, num_workers):
        progress.begin(piece.lane, piece.last_row - piece.read.rows)
        progress.count(piece.read.rows, reading.lanes[piece.lane].size)
        yield piece


def count_workers(asked: int | None, num_lanes: int) -> int:
    """How many processes prepare; those that nobody asked for must have some lanes each to be worth their start."""
    if asked is not None:
        return min(asked, num_lanes)
    cores = os.cpu_count() or 1
    return min(cores, MOST_WORKERS, num_lanes // LANES_EACH) if cores > 2 else 1
