"""Windows of examples that are still being prepared, and the process that prepares them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data import quick
from sft.data.cache import entry_folder, folder_beside
from sft.data.fingerprints import fingerprints
from sft.data.growing import JOURNAL, GrowingStore
from sft.data.layout import IN_FULL
from sft.data.prepare import prepare
from sft.data.preparer import PreparationJob, Preparer, prepare_in_windows, run_job
from sft.data.store import ExampleStore
from sft.data.stream import NotWaitedFor, Stream, note_failure
from sft.data.windows import Windows
from sft.errors import ConfigError, DataError, TooManyBadRows

SIZE = 7


def row(number: int) -> dict[str, Any]:
    return {"instruction": f"Count to {number}.", "output": "one two " * (number % 5) + f"{number}"}


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_tokenizer_folder)


@pytest.fixture
def config(tmp_path: Path) -> SFTConfig:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row(number)) + "\n" for number in range(25)))
    return SFTConfig(
        data_path=str(path),
        max_length=200,
        cache_dir=str(tmp_path / "cache"),
        output_dir=str(tmp_path / "run"),
        stream_preparation=True,
        stream_window=SIZE,
        max_steps=1,
    )


def job_of(config: SFTConfig, tokenizer: PreTrainedTokenizerBase) -> tuple[Path, PreparationJob]:
    parts = fingerprints(config, tokenizer)
    return entry_folder(parts, config.cache_dir), PreparationJob(config, tokenizer, parts)


def told(store: ExampleStore, first: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
    """Examples in plain values."""
    stop = len(store) if stop is None else stop
    return [{key: np.array(value).tolist() for key, value in asdict(store[i]).items()} for i in range(first, stop)]


def test_windows_are_there_as_soon_as_they_are_on_disk_and_stay_what_they_were(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare(config.replace(cache_dir=str(tmp_path / "whole")), tokenizer, quiet=True).train
    folder, job = job_of(config, tokenizer)
    windows = Windows(folder, SIZE, {})
    seen: list[Any] = [(windows.has(0), windows.has(3))]
    early: list[list[dict[str, Any]]] = []
    append = GrowingStore.append

    def appending(store: GrowingStore, *args: Any) -> None:
        append(store, *args)
        known = (store.num_examples - 1) // SIZE
        seen.append([windows.has(number) for number in range(5)])
        early.extend(told(windows.read(number)) for number in range(len(early), known + 1) if windows.has(number))

    monkeypatch.setattr(GrowingStore, "append", appending)
    run_job(folder, job)
    assert seen == [
        (None, None),
        [True, None, None, None, None],
        [True, True, None, None, None],
        [True, True, True, None, None],
        [True, True, True, None, None],
    ]
    assert [windows.has(number) for number in range(5)] == [True, True, True, True, False]
    assert early == [told(whole.examples, start, start + SIZE) for start in (0, 7, 14)]
    assert [told(windows.read(number)) for number in range(3)] == early
    assert told(windows.read(3)) == told(whole.examples, 21)
    assert told(windows.all()) == told(whole.examples)
    assert windows.report() == whole.report
    assert windows.all().count_by_path() == whole.examples.count_by_path()


def test_the_report_so_far_counts_what_is_there(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, job = job_of(config, tokenizer)
    append = GrowingStore.append
    reports = []

    def appending(store: GrowingStore, *args: Any) -> None:
        append(store, *args)
        windows = Windows(folder, SIZE, {})
        windows.look()
        reports.append(windows.report())

    monkeypatch.setattr(GrowingStore, "append", appending)
    run_job(folder, job)
    assert [(report.rows, report.examples) for report in reports] == [(7, 7), (14, 14), (21, 21), (25, 25)]


def test_evaluation_data_are_there_before_the_first_window(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    append = GrowingStore.append

    def appending(store: GrowingStore, *args: Any) -> None:
        order.append(store.folder.name)
        append(store, *args)

    monkeypatch.setattr(GrowingStore, "append", appending)
    config = config.replace(validation_size=5)
    data = prepare_in_windows(config, tokenizer, start=InThisProcess)
    assert order == ["eval", "train", "train", "train"]
    assert data.eval is not None
    assert (len(data.eval.examples), len(data.train.examples)) == (5, SIZE)


class InThisProcess:
    """Prepares all at once."""

    def __init__(self, folder: Path, job: PreparationJob) -> None:
        run_job(folder, job)

    def check(self) -> None:
        """It is done."""

    def close(self) -> None:
        """It is closed."""


def test_a_later_fault_is_told_where_its_window_is_waited_for(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    path = Path(str(config.data_path))
    path.write_text("".join(json.dumps(row(number) if number != 16 else {"output": 1}) + "\n" for number in range(25)))
    with pytest.raises(TooManyBadRows) as at_once:
        prepare(config.replace(cache_dir=str(tmp_path / "whole")), tokenizer, quiet=True)
    data = prepare_in_windows(config, tokenizer, start=InThisProcess)
    assert data.stream is not None
    assert [data.stream.wait_for(number) for number in (0, 1)] == [True, True]
    with pytest.raises(TooManyBadRows, match=r"1 of 21 rows cannot be used") as later:
        data.stream.wait_for(2)
    place = str(at_once.value).splitlines()[1]
    assert "rows.jsonl:17" in place
    assert place in str(later.value)
    with pytest.raises(TooManyBadRows):  # and so it is by the next attempt, which goes on after two windows
        prepare_in_windows(config, tokenizer, start=InThisProcess).stream.wait_for(2)  # type: ignore[union-attr]


def test_a_fault_in_the_first_window_is_told_before_anything_is_loaded(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    Path(str(config.data_path)).write_text('{"instruction": "a", "output": ""}\n')
    with pytest.raises(TooManyBadRows, match=r"rows\.jsonl:1"):
        prepare_in_windows(config, tokenizer, start=InThisProcess)


def test_rows_that_differ_from_their_shape_end_a_run_that_has_used_the_shape(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, job = job_of(config, tokenizer)
    windows = Windows(folder, SIZE, {})
    calls = []
    same = quick._same

    def same_at_first(one: Any, other: Any) -> bool:
        calls.append(windows.has(0))
        return bool(same(one, other)) and not windows.has(0)

    with monkeypatch.context() as patch:
        patch.setattr(quick, "_same", same_at_first)
        run_job(folder, job)
    assert calls[-1] is True
    assert (folder_beside(folder) / IN_FULL).exists()
    with pytest.raises(DataError, match="each row by itself"):
        windows.has(1)
    with pytest.raises(DataError, match=r"written otherwise by the chat template.*--overwrite_output_dir"):
        Stream(Windows(folder, SIZE, {}), InThisProcess.__new__(InThisProcess)).wait_for(1)
    again = prepare_in_windows(config, tokenizer, start=InThisProcess)
    whole = prepare(config.replace(cache_dir=str(tmp_path / "whole")), tokenizer, quiet=True).train
    assert told(again.stream.windows.all()) == told(whole.examples)  # type: ignore[union-attr]


def test_a_preparation_begun_anew_is_noticed_by_who_reads_the_old_one(tmp_path: Path) -> None:
    windows = Windows(tmp_path / "entry", 2, {})
    beside = folder_beside(tmp_path / "entry")
    store = GrowingStore(beside / "train")
    arrays: dict[str, Any] = {
        "ids": np.arange(4), "mask": np.ones(4), "offsets": np.array([0, 2, 4]), "origin": np.zeros(2, np.int32),
        "line": np.arange(2), "turn": np.full(2, -1),
    }  # fmt: skip
    blank: dict[str, Any] = {"answer_kwargs": []}
    blank["read"] = blank["made"] = Windows(tmp_path, 1, {}).report().to_dict()
    store.append(arrays, [("rows.jsonl", "line")], blank)
    store.close()
    assert windows.has(0)
    shutil.rmtree(beside)
    beside.mkdir()
    (beside / IN_FULL).touch()
    with pytest.raises(DataError, match="being prepared anew"):
        windows.has(1)


def test_data_that_were_taken_away_are_named(config: SFTConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    data = prepare_in_windows(config, tokenizer, start=InThisProcess)
    shutil.rmtree(data.cache.folder)
    with pytest.raises(DataError, match="were taken away"):
        data.stream.windows.read(1)  # type: ignore[union-attr]


def test_waiting_ends_when_nobody_wants_to_wait(tmp_path: Path) -> None:
    with pytest.raises(NotWaitedFor):
        Stream(Windows(tmp_path / "none", 2, {}), is_given_up=lambda: True).wait_for(0)


@pytest.mark.parametrize("error", [ConfigError("one"), TooManyBadRows("two"), DataError("three"), OSError("four")])
def test_a_failure_keeps_its_kind_for_the_user(tmp_path: Path, error: Exception) -> None:
    note_failure(tmp_path / "entry", error)
    expected = type(error) if isinstance(error, DataError | ConfigError) else RuntimeError
    with pytest.raises(expected, match=str(error)):
        Stream(Windows(tmp_path / "entry", 2, {}), InThisProcess.__new__(InThisProcess)).wait_for(0)


def test_what_an_earlier_attempt_said_does_not_count(tmp_path: Path) -> None:
    note_failure(tmp_path / "entry", DataError("of yesterday"))
    os.utime(tmp_path / "entry.failed", (1, 1))
    with pytest.raises(NotWaitedFor):
        Stream(Windows(tmp_path / "entry", 2, {}), is_given_up=lambda: True).wait_for(0)


@pytest.fixture
def waiting(config: SFTConfig, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[Path, PreparationJob]]:
    """A job that waits for as long as the test has the lock of its data."""
    folder, job = job_of(config, tokenizer)
    folder.parent.mkdir(parents=True)
    with FileLock(f"{folder}.lock"):
        yield folder, job


def test_a_preparer_that_dies_is_an_error_with_its_exit_status(waiting: tuple[Path, PreparationJob]) -> None:
    preparer = Preparer(*waiting)
    preparer.process.kill()
    preparer.process.wait()
    with pytest.raises(RuntimeError, match=r"the process that prepares data died \(exit status -9\)"):
        Stream(Windows(waiting[0], SIZE, {}), preparer).wait_for(0)
    preparer.close()


STARTS_AND_DIES = """
import os, pickle, signal, sys
from pathlib import Path
from sft.data.preparer import Preparer
preparer = Preparer(Path(sys.argv[1]), pickle.loads(Path(sys.argv[2]).read_bytes()))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_preparer_ends_with_the_process_that_started_it(waiting: tuple[Path, PreparationJob], tmp_path: Path) -> None:
    """It shares our pipe, which is at its end only when it is gone too."""
    folder, job = waiting
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    command = [sys.executable, "-c", STARTS_AND_DIES, str(folder), str(tmp_path / "job")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == -9
    assert done.stderr == ""
    assert not (folder_beside(folder) / "train" / JOURNAL).exists()
