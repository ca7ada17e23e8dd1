"""What Trackio keeps on this machine, read back through its own interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sft.trackers.tracker import RunFacts, Table

from .conftest import Listener

TABLE = Table(name="qmsum", columns=("id", "answer", "score"), rows=(("1", "<b>", None), ("2", "x", 0.5)))


def facts(step: int = 0, run_id: str | None = None, **config: object) -> RunFacts:
    return RunFacts(name="./output", project="adapter", folder=Path("run"), config=config, step=step, run_id=run_id)


def logged(name: str) -> list[dict[str, Any]]:
    from trackio.sqlite_storage import SQLiteStorage

    return list(SQLiteStorage.get_logs("adapter", name))


def test_a_run_and_its_resume_are_one_run(trackio_folder: Path, own_machine: Listener, tmp_path: Path) -> None:
    import trackio

    from sft.trackers.trackio import TrackioTracker

    page = tmp_path / "report.html"
    page.write_text("<p>the page</p>")
    first = TrackioTracker()
    run_id = first.open(facts(seed=1))
    first.log(1, {"train/loss": 2.0})
    first.add_table(2, TABLE)
    first.log(3, {"train/loss": 1.0})
    first.close("stopped")
    second = TrackioTracker()
    assert second.open(facts(step=2, run_id=run_id, seed=2)) == run_id
    second.add_table(2, TABLE)
    second.log(3, {"train/loss": 1.0})  # done again
    second.log(3, {"eval/loss": 3.0})  # what the interrupted run did not come to
    second.log(4, {"train/loss": 0.5})
    second.add_page(page, 3)
    second.close("finished")
    other = TrackioTracker()
    assert other.open(facts()) == "./output-2"
    other.log(1, {"train/loss": 9.0})
    other.close("finished")

    runs = {run.name: run for run in trackio.Api().runs("adapter")}
    assert set(runs) == {"./output", "./output-2"}
    assert runs["./output"].config["seed"] == 2
    lines = logged("./output")
    assert [(line["step"], line.get("train/loss")) for line in lines] == [
        *((1, 2.0), (2, None), (3, 1.0)),
        *((3, None), (4, 0.5)),
    ]
    assert lines[3]["eval/loss"] == 3.0
    assert [list(row.values()) for row in lines[1]["answers/qmsum"]["_value"]] == [list(row) for row in TABLE.rows]
    pages = [path for path in (trackio_folder / "artifacts").rglob("*") if path.is_file()]
    assert "<p>the page</p>" in [path.read_text(errors="replace") for path in pages]
