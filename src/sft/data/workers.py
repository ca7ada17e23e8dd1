"""Pieces from several processes, for large files: each prepares whole lanes, and they come back in order.

A worker is a Python process of its own, neither a fork (other threads may hold locks) nor a copy of the main program
(which may have no guard around its first line). It is given its work as a file and lanes by number, one at a time; its
pieces come back as files beside the store. When this process dies, the workers see their input end and stop.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.lanes import Lane
from sft.data.pieces import Piece, PieceMaker

FOLDER = "workers"
JOB = "job.pickle"
AHEAD = 2
"""Lanes for each worker that are prepared before their turn."""


@dataclass(frozen=True)
class Job:
    """What every worker is told."""

    config: SFTConfig
    tokenizer: PreTrainedTokenizerBase
    in_full: bool
    lanes: Sequence[Lane]
    threads: int
    """For encoding."""
    most_rows: int
    """Of a piece."""


@dataclass(frozen=True)
class Failure:
    """What a worker sends in place of pieces."""

    error: Exception


def can_be_sent(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether another process can load it: not where its code is a model's or a script's own."""
    return type(tokenizer).__module__.startswith("transformers.")


def pieces_by_workers(folder: Path, job: Job, first: int, num_workers: int) -> Iterator[Piece]:
    """The pieces of all lanes from ``first`` on, in order.

    Args:
        folder: where they may leave files.

    Raises:
        RuntimeError: a worker died; what it said stands on stderr.
        Exception: whatever the preparation of a lane raises.
    """
    inside = folder / FOLDER
    shutil.rmtree(inside, ignore_errors=True)  # of a process that was killed
    inside.mkdir(parents=True)
    (inside / JOB).write_bytes(pickle.dumps(job))
    workers = [start_worker(inside) for _ in range(num_workers)]
    idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
    for worker in workers:
        idle.put(worker)
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            left = iter(range(first, len(job.lanes)))
            under_way: deque[Future[Path]] = deque()
            for lane in islice(left, AHEAD * num_workers):
                under_way.append(pool.submit(ask, idle, lane))
            while under_way:
                found = under_way.popleft().result()
                for lane in islice(left, 1):
                    under_way.append(pool.submit(ask, idle, lane))
                yield from read_pieces(found)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.kill()
                close(worker)
    shutil.rmtree(inside, ignore_errors=True)


def start_worker(folder: Path) -> subprocess.Popen[str]:
    """A process that waits for numbers of lanes."""
    command = [sys.executable, "-c", "from sft.data.workers import work; work()", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=False
    )


def close(worker: subprocess.Popen[str]) -> None:
    """Wait for the end of a process that was killed, and close its pipes."""
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # of a number that it did not take
                pipe.close()


def ask(idle: SimpleQueue[subprocess.Popen[str]], lane: int) -> Path:
    """Have a lane prepared by the next worker that is free; the file that it wrote."""
    worker = idle.get()
    assert worker.stdin is not None, "it is a pipe"
    assert worker.stdout is not None, "it is a pipe"
    try:
        worker.stdin.write(f"{lane}\n")
        worker.stdin.flush()
        answer = worker.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if not answer:
        raise RuntimeError(
            f"a process that prepared data died (exit status {worker.wait()}); see above for what it said"
        )
    idle.put(worker)
    return Path(answer.rstrip("\n"))


def read_pieces(path: Path) -> Iterator[Piece]:
    """The pieces in a file, which is taken away."""
    with path.open("rb") as file:
        while (found := pickle.load(file)) is not None:
            if isinstance(found, Failure):
                raise found.error
            yield found
    path.unlink()


def work() -> None:
    """Prepare lanes as their numbers come in, until the input ends."""
    folder = Path(sys.argv[1])
    job: Job = pickle.loads((folder / JOB).read_bytes())
    maker = PieceMaker(job.config, job.tokenizer, in_full=job.in_full, threads=job.threads, most_rows=job.most_rows)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever is printed must not be taken for an answer
    for line in sys.stdin:
        lane = int(line)
        path = folder / f"lane-{lane}.pickle"
        with path.open("wb") as file:
            _write_pieces(file, maker, job.lanes[lane], lane)
        answers.write(f"{path}\n")
        answers.flush()


def _write_pieces(file: IO[bytes], maker: PieceMaker, lane: Lane, number: int) -> None:
    try:
        for piece in maker.pieces_of(lane, number):
            pickle.dump(piece, file, protocol=5)
    except Exception as error:
        pickle.dump(Failure(error), file)
    pickle.dump(None, file)
