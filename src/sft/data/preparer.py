"""Preparation beside training: a process of its own fills the cache while windows of it are trained on.

It is started as workers are (``workers.py``) and hears no Ctrl-C: it ends when its work is done, when it is told to, or
when the process that started it is gone. What it has prepared by then is gone on with by the next.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.cache import PREPARED_BEFORE, CacheEntry, entry_folder, forget, is_complete
from sft.data.conversations import MoreRows
from sft.data.fingerprints import fingerprints
from sft.data.layout import EVAL
from sft.data.prepare import prepare, prepare_entry
from sft.data.prepared import PreparedData, PreparedPart, load_evaluation
from sft.data.stream import Preparing, Stream, failure_of, note_failure, read_failure
from sft.data.windows import Windows
from sft.data.workers import can_be_sent
from sft.errors import UserError

BESIDE = "it is prepared while training runs (stream_preparation)"


@dataclass(frozen=True)
class PreparationJob:
    """What the process is told."""

    config: SFTConfig
    tokenizer: PreTrainedTokenizerBase
    parts: Mapping[str, str]


class Preparer:
    """A process that prepares data.

    Args:
        folder: where they will stand.
    """

    def __init__(self, folder: Path, job: PreparationJob) -> None:
        self.folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        failure_of(folder).unlink(missing_ok=True)
        told = Path(f"{folder}.job.{os.getpid()}")
        told.write_bytes(pickle.dumps(job))
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from sft.data.preparer import work; work()", str(told)],
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno() if _has_number(sys.stderr) else None,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,
        )
        self._end = weakref.finalize(self, _end, self.process, told, os.getpid())

    def check(self) -> None:
        """See that it is alive or done, or note that it died."""
        status = self.process.poll()
        if status is None or is_complete(self.folder) or read_failure(self.folder) is not None:
            return
        died = RuntimeError(f"the process that prepares data died (exit status {status}); see above for what it said")
        note_failure(self.folder, died)

    def close(self) -> None:
        """End it."""
        self._end()


def _has_number(stream: object) -> bool:
    with suppress(Exception):
        return stream.fileno() >= 0  # type: ignore[attr-defined, no-any-return]
    return False


def _end(process: subprocess.Popen[bytes], told: Path, owner: int) -> None:
    if os.getpid() != owner:  # a fork of it, which loads data
        return
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
    told.unlink(missing_ok=True)


def prepare_in_windows(
    config: SFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    more: MoreRows | None = None,
    is_first: bool = True,
    quiet: bool = False,
    say: Callable[[str], None] = lambda text: None,
    start: Callable[[Path, PreparationJob], Preparing] = Preparer,
) -> PreparedData:
    """The data of a config as soon as the first window is there; the rest comes by ``PreparedData.stream``.

    Args:
        more: see ``prepare``; with it, all is prepared first, for all rows have to be looked at.
        is_first: this process is the one of its machine that looks after the preparation.
        say: tells the user.

    Raises:
        DataError: see ``prepare``; of later rows, when their window is waited for.
    """
    parts = fingerprints(config, tokenizer, more)
    folder = entry_folder(parts, config.cache_dir)
    if config.overwrite_cache and is_first:
        forget(folder)
    hit = is_complete(folder)
    preparing = None
    if not hit and (more is not None or not can_be_sent(tokenizer)):
        why = "they are compared with what tasks ask" if more is not None else "this tokenizer has code of its own"
        say(f"stream_preparation: all rows are prepared before the first step, for {why}")
        prepare(config.replace(overwrite_cache=False), tokenizer, more=more, quiet=quiet)
    elif not hit and is_first:
        preparing = start(folder, PreparationJob(config.replace(overwrite_cache=False), tokenizer, parts))
    windows = Windows(folder, config.stream_window, config.chat_template_kwargs)
    stream = Stream(windows, preparing)
    stream.wait_for(0)
    if config.eval_data_path is not None or config.validation_size:
        stream.wait_for_part(EVAL)
    if not windows.is_whole:
        say(
            f"stream_preparation: training begins with the first {config.stream_window:,} examples; the rest is "
            "prepared meanwhile"
        )
    entry = CacheEntry(folder, hit, PREPARED_BEFORE if hit else BESIDE, parts)
    first = PreparedPart(windows.read(0), windows.report())
    return PreparedData(first, _load_evaluation(windows), entry, stream)


def _load_evaluation(windows: Windows) -> PreparedPart | None:
    try:
        return load_evaluation(windows.standing)
    except FileNotFoundError:  # renamed meanwhile
        return load_evaluation(windows.standing)


def work() -> None:
    """Prepare what the file in the first argument asks for, and say so where it cannot be done."""
    told = Path(sys.argv[1])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job: PreparationJob = pickle.loads(told.read_bytes())
    told.unlink(missing_ok=True)
    run_job(entry_folder(job.parts, job.config.cache_dir), job)


def run_job(folder: Path, job: PreparationJob) -> None:
    """Prepare data, or leave behind why they cannot be."""
    try:
        prepare_entry(job.config, job.tokenizer, job.parts, quiet=True, window=job.config.stream_window)
    except UserError as error:
        note_failure(folder, error)
    except Exception as error:
        traceback.print_exc()
        note_failure(folder, error)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing comes but the end; a buffered reader would be in the way of a usual exit
    os._exit(1)
