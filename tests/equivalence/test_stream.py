"""Training while data are prepared: the same run as on data that were prepared whole, to the last bit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, TrainerCallback

from sft.config import SFTConfig
from sft.data import preparer, stream
from sft.data.growing import num_journaled
from sft.data.pieces import Piece, PieceMaker
from sft.data.prepare import prepare
from sft.errors import DataError, TrainingStopped
from sft.training import preflight
from sft.training.run import assemble
from sft.training.run import train as train_assembled

STREAM = {"stream_preparation": True, "stream_window": 16, "per_device_train_batch_size": 4, "max_steps": 11}
"""Three windows of 16, 16 and 8 examples; eleven steps go through them and begin anew."""


def prepare_whole(settings: dict[str, Any]) -> None:
    config = SFTConfig(**{**settings, "max_steps": -1})
    prepare(config, AutoTokenizer.from_pretrained(config.model_name_or_path), quiet=True)


def same_weights(one: Any, other: Any) -> bool:
    return all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights | other.weights)


@pytest.mark.parametrize("packing", [True, False])
def test_a_streamed_run_is_the_run_on_data_prepared_whole(
    train: Callable[..., Any], settings: dict[str, Any], tmp_path: Path, packing: bool
) -> None:
    prepare_whole(settings)
    whole = train("whole", packing=packing, **STREAM)
    streamed = train("streamed", packing=packing, **STREAM, cache_dir=str(tmp_path / "empty"))
    assert streamed.losses == whole.losses
    assert same_weights(streamed, whole)


class Gated:
    """Prepares in a thread of this process, and after its first window waits until training has made a step."""

    def __init__(self, open_gate: threading.Event, folder: Path, job: preparer.PreparationJob) -> None:
        self.gate = open_gate
        self.thread = threading.Thread(target=preparer.run_job, args=(folder, job))
        self.thread.start()

    def check(self) -> None:
        """It lives as long as this process."""

    def close(self) -> None:
        self.thread.join()


class OpenTheGate(TrainerCallback):  # type: ignore[misc]
    """After the first step; sees how much was prepared by then."""

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.examples = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 1:
            windows = kwargs["train_dataloader"].dataset.windows
            windows.look()
            self.examples = windows.num_examples
            self.gate.set()


def test_the_first_step_comes_before_the_rest_is_prepared(
    train: Callable[..., Any],
    read_run: Callable[..., Any],
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, pieces_of = threading.Event(), PieceMaker.pieces_of

    def gated(self: PieceMaker, *args: Any, **kwargs: Any) -> Iterator[Piece]:
        for number, piece in enumerate(pieces_of(self, *args, **kwargs)):
            assert number < 1 or gate.wait(timeout=120), "no step was made of the first window"
            yield piece

    with monkeypatch.context() as patch:
        patch.setattr(PieceMaker, "pieces_of", gated)
        slow = partial(preparer.prepare_in_windows, start=partial(Gated, gate))
        patch.setattr(preflight, "prepare_in_windows", slow)
        seen = OpenTheGate(gate)
        run = assemble(SFTConfig(**{**settings, **STREAM, "output_dir": str(tmp_path / "slow")}), callbacks=[seen])
        train_assembled(run)
    assert seen.examples == 16
    record = json.loads((tmp_path / "slow" / "run.json").read_text())
    assert record["plan"]["stream"] == {"window": 16, "examples_so_far": 40, "all_prepared": True}
    assert (record["plan"]["rows"], record["plan"]["examples"]) == (40, 40)
    assert json.loads((tmp_path / "slow" / "data_summary.json").read_text())["examples_counted"] == 40
    slow_run, whole = read_run(tmp_path / "slow"), train("whole", **STREAM)
    assert slow_run.losses == whole.losses
    assert same_weights(slow_run, whole)


def test_ctrl_c_is_heard_while_rows_are_waited_for(
    train: Callable[..., Any], settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, pieces_of = threading.Event(), PieceMaker.pieces_of

    def gated(self: PieceMaker, *args: Any, **kwargs: Any) -> Iterator[Piece]:
        for number, piece in enumerate(pieces_of(self, *args, **kwargs)):
            assert number < 1 or gate.wait(timeout=120), "nobody stopped waiting"
            yield piece

    class NeverMore(Gated):
        def close(self) -> None:
            gate.set()
            super().close()

    class PressWhenWaiting:
        """In place of ``time``, as the stream knows it."""

        time = staticmethod(time.time)

        @staticmethod
        def sleep(seconds: float) -> None:
            if trained:
                signal.raise_signal(signal.SIGINT)

    class Trained(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            trained.append(state.global_step)

    trained: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(PieceMaker, "pieces_of", gated)
        patch.setattr(
            preflight, "prepare_in_windows", partial(preparer.prepare_in_windows, start=partial(NeverMore, gate))
        )
        patch.setattr(stream, "time", PressWhenWaiting)
        run = assemble(SFTConfig(**{**settings, **STREAM, "output_dir": str(tmp_path / "run")}), callbacks=[Trained()])
        with pytest.raises(TrainingStopped, match="SIGINT after step 4 of 11"):
            train_assembled(run)
    assert trained == [1, 2, 3, 4]
    resumed, straight = train("run", **STREAM), train("straight", **STREAM)
    assert resumed.losses == straight.losses
    assert same_weights(resumed, straight)


KILLED = """
import json, os, signal, sys, threading
from functools import partial
from transformers import TrainerCallback
from sft.config import SFTConfig
from sft.data import preparer
from sft.data.growing import num_journaled
from sft.data.pieces import PieceMaker
from sft.training import preflight
from sft.training.run import run_training

class Kill(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

class HalfDone:
    def __init__(self, folder, job):
        threading.Thread(target=preparer.run_job, args=(folder, job), daemon=True).start()

    def check(self):
        pass

def two(self, *args, **kwargs):
    for number, piece in enumerate(pieces_of(self, *args, **kwargs)):
        if number == 2:
            threading.Event().wait()
        yield piece

pieces_of, PieceMaker.pieces_of = PieceMaker.pieces_of, two
preflight.prepare_in_windows = partial(preparer.prepare_in_windows, start=HalfDone)
run_training(SFTConfig(**json.loads(sys.argv[1])), callbacks=[Kill()])
"""
"""Dies in its sixth step, when two of three windows are prepared."""


def test_a_killed_run_is_gone_on_with_and_so_is_its_preparation(
    train: Callable[..., Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    options = {**settings, **STREAM, "save_in_background": False, "cache_dir": str(tmp_path / "killed-cache")}
    killed = {**options, "output_dir": str(tmp_path / "killed")}
    done = subprocess.run([sys.executable, "-c", KILLED, json.dumps(killed)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "killed" / "checkpoint-4").is_dir()
    assert [num_journaled(folder / "train") for folder in Path(options["cache_dir"]).glob("*.partial")] == [32]
    resumed = train("killed", **{name: options[name] for name in (*STREAM, "save_in_background", "cache_dir")})
    straight = train("straight", **STREAM)
    assert json.loads((resumed.folder / "run.json").read_text())["result"]["resumed_from"].endswith("checkpoint-4")
    assert resumed.losses == straight.losses
    assert same_weights(resumed, straight)


def write_rows(path: Path, *, bad: bool) -> None:
    """Forty rows, of which the thirtieth may have no answer."""
    rows = [{"instruction": f"Count to {number}", "output": f"{number} and done"} for number in range(1, 41)]
    if bad:
        rows[29]["output"] = ""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_bad_row_ends_the_run_where_it_is_met_and_is_gone_on_with_when_mended(
    train: Callable[..., Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, bad=True)
    with pytest.raises(DataError, match=r"(?s)rows.jsonl:30: .*checkpoint-6 holds the 6 of 11.*--allow_change data"):
        train("run", **{**STREAM, "stream_window": 8}, data_path=str(path))
    listed = json.loads((tmp_path / "run" / "bad_rows.jsonl").read_text())
    assert (listed["line"], (tmp_path / "run" / "checkpoint-6").is_dir()) == (30, True)
    write_rows(path, bad=False)
    mended = train("run", **{**STREAM, "stream_window": 8}, data_path=str(path), allow_change=["data"])
    straight = train("straight", **{**STREAM, "stream_window": 8}, data_path=str(path))
    assert mended.losses == straight.losses
    assert same_weights(mended, straight)
