"""What W&B keeps of an offline run, read back from its own file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft.trackers.tracker import RunFacts, Table

from .conftest import Listener
from .offline_file import config, records, rows

pytest.importorskip("wandb", reason="wandb is not installed")

import wandb

from sft.trackers.wandb import WandbTracker, needs_login

TABLE = Table(name="longbench/qmsum", columns=("id", "answer", "score"), rows=(("1", "<b>", None), ("2", "x", 0.5)))


def facts(step: int = 0, run_id: str | None = None, **config: object) -> RunFacts:
    return RunFacts(name="a name", project="a project", folder=Path("run"), config=config, step=step, run_id=run_id)


def file_of_newest() -> Path:
    """The newest run's file, whole: W&B's own process writes it, until it is told to end."""
    wandb.teardown()
    return max(Path("wandb").glob("offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns)


def test_config_figures_tables_and_page_of_a_run_and_of_its_resume(own_machine: Listener, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<p>the page</p>")
    first = WandbTracker()
    run_id = first.open(facts(seed=1, target={"modules": ["q", "v"]}))
    first.log(1, {"train/loss": 2.0})
    first.log(1, {"eval/loss": 3.0})
    first.add_table(2, TABLE)
    first.log(4, {"train/loss": float("nan")})
    first.add_page(page, 4)
    first.close("stopped")

    file = file_of_newest()
    kinds = {record.WhichOneof("record_type"): record for record in records(file)}
    assert kinds["exit"].exit.exit_code == 1
    assert (kinds["run"].run.run_id, kinds["run"].run.display_name, kinds["run"].run.project) == (
        run_id,
        "a name",
        "a project",
    )
    kept = config(file)
    assert (kept["seed"], kept["target"]) == (1, {"modules": ["q", "v"]})
    assert next((row["_step"], row.get("train/loss"), row.get("eval/loss")) for row in rows(file)) == (1, 2.0, 3.0)
    assert [row["_step"] for row in rows(file)] == [1, 2, 4]
    table = json.loads(next(Path("wandb").rglob("qmsum_*.table.json")).read_text())
    assert (table["columns"], table["data"]) == (list(TABLE.columns), [list(row) for row in TABLE.rows])
    artifact = kinds["artifact"].artifact
    assert (artifact.type, artifact.manifest.contents[0].path) == ("report", "report.html")
    assert Path(artifact.manifest.contents[0].local_path).read_text() == "<p>the page</p>"

    second = WandbTracker()
    assert second.open(facts(step=2, run_id=run_id, seed=2)) == run_id
    second.log(3, {"train/loss": 1.5})
    second.close("finished")
    again = file_of_newest()
    assert again != file
    resumed = next(record.run for record in records(again) if record.WhichOneof("record_type") == "run")
    assert (resumed.run_id, resumed.resume, config(again)["seed"]) == (run_id, True, 2)
    assert [(row["_step"], row["train/loss"]) for row in rows(again)] == [(3, 1.5)]


def test_a_run_that_the_user_opened_is_used_and_left_open(own_machine: Listener) -> None:
    with wandb.init(project="mine", settings={"silent": True}) as mine:
        mine.log({"other": 1})
        tracker = WandbTracker()
        assert tracker.open(facts()) == mine.id
        tracker.log(10, {"train/loss": 2.0})
        tracker.close("finished")
        assert wandb.run is mine
        mine.log({"other": 2})
    kept = rows(file_of_newest())
    assert [(row.get("train/step"), row.get("train/loss"), row.get("other")) for row in kept] == [
        (None, None, 1),
        (10, 2.0, None),
        (10, None, 2),
    ]


def test_without_a_key_nobody_is_asked_for_one(own_machine: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    assert needs_login()
    tracker = WandbTracker()
    tracker.open(facts())
    tracker.close("finished")
    assert file_of_newest().parent.name.startswith("offline-run-")
