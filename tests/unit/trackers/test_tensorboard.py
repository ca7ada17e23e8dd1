"""What TensorBoard gets, read back by its own reader."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from sft.trackers.tracker import RunFacts, Table

pytest.importorskip("tensorboard", reason="tensorboard is not installed")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sft.trackers.tensorboard import TensorBoardTracker

HOSTILE = "a | b\n<script>alert(1)</script>"


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    found.Reload()
    return found


def text(events: EventAccumulator, name: str) -> str:
    return str(events.Tensors(f"{name}/text_summary")[-1].tensor_proto.string_val[0].decode())


def facts(folder: Path, step: int = 0, run_id: str | None = None) -> RunFacts:
    return RunFacts(name="run", project="p", folder=folder, config={"seed": 1}, step=step, run_id=run_id)


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars("train/loss")]


def test_a_resumed_run_writes_where_it_wrote_and_no_step_counts_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    first = TensorBoardTracker()
    run_id = first.open(facts(tmp_path))
    for step in (1, 2, 3):  # killed after step 3; its last checkpoint is that of step 1
        first.log(step, {"train/loss": 10.0 + step})
    second = TensorBoardTracker()
    assert second.open(facts(tmp_path, 1, run_id)) == run_id
    for step in (2, 3, 4):
        second.log(step, {"train/loss": 20.0 + step})
    second.add_table(4, Table(name="qmsum", columns=("id", "answer"), rows=(("1", HOSTILE),)))
    second.close("finished")
    folders = {path.parent for path in tmp_path.rglob("events.out.tfevents.*")}
    assert folders == {tmp_path / "runs"}
    assert losses(tmp_path / "runs") == [(1, 11.0), (2, 22.0), (3, 23.0), (4, 24.0)]
    table = text(read(tmp_path / "runs"), "answers/qmsum")
    assert "<script>" not in table
    assert html.unescape(table.splitlines()[-1].replace("<br>", "\n")) == f"| 1 | {HOSTILE} |"


def test_a_run_that_is_started_anew_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        tracker = TensorBoardTracker()
        tracker.open(facts(tmp_path))
        tracker.log(1, {"train/loss": value})
        tracker.close("failed")
    assert losses(tmp_path / "runs") == [(1, 2.0)]


def test_the_environment_names_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "elsewhere"))
    tracker = TensorBoardTracker()
    tracker.open(facts(tmp_path / "run"))
    tracker.add_page(tmp_path / "run" / "report.html", 1)
    tracker.close("finished")
    events = read(tmp_path / "elsewhere")
    assert "report.html" in text(events, "page")
    assert "| seed | 1 |" in text(events, "config")
