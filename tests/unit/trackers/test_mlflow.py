"""What MLflow keeps in a local store, read back by its own client."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft.trackers.several import mlflow_tracker
from sft.trackers.tracker import RunFacts, Table

from .conftest import Listener

NEEDED = "is not installed (make test-trackers installs it)"
pytest.importorskip("mlflow", reason=f"mlflow {NEEDED}")
pytest.importorskip("sqlalchemy", reason=f"what MLflow's local store needs {NEEDED}")
pytest.importorskip("alembic", reason=f"what MLflow's local store needs {NEEDED}")

TABLE = Table(name="longbench/qmsum", columns=("id", "answer", "score"), rows=(("1", "<b>", None), ("2", "x", 0.5)))


def facts(step: int = 0, run_id: str | None = None, **config: object) -> RunFacts:
    return RunFacts(name="a name", project="p", folder=Path("run"), config=config, step=step, run_id=run_id)


@pytest.mark.slow  # MLflow makes the tables of its store by all its migrations
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_and_its_resume_are_one_run(own_machine: Listener, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>the page</p>")
    first = mlflow_tracker()
    import mlflow  # only now: its telemetry is switched off by whoever asks for the tracker

    run_id = first.open(facts(seed=1, text="a" * 7_000))
    first.log(1, {"train/loss": 2.0, "score/x (y)": 0.5})
    first.log(2, {"train/loss": 1.5, "score/x (y)": 0.75})
    first.add_table(2, TABLE)
    first.close("stopped")
    client = mlflow.MlflowClient()
    kept = client.get_run(run_id)
    assert (kept.info.status, kept.info.run_name) == ("KILLED", "a name")
    assert kept.data.params == {"seed": "1", "text": "7,000 characters: see config.json"}
    assert kept.data.metrics == {"train/loss": 1.5, "score/x _y_": 0.75}

    second = mlflow_tracker()
    assert second.open(facts(step=1, run_id=run_id, seed=2, text="a" * 7_000)) == run_id
    assert client.get_run(run_id).info.status == "RUNNING"
    second.log(2, {"train/loss": 1.5, "score/x (y)": 0.75})
    second.log(2, {"eval/loss": 3.0})  # what the interrupted run did not come to
    second.add_table(2, TABLE)
    second.log(3, {"train/loss": 1.0})
    second.add_page(tmp_path / "report.html", 3)
    second.close("finished")
    second.log(4, {"train/loss": 0.5})  # nothing is opened anew, as the fluent functions would
    kept = client.get_run(run_id)
    assert (kept.info.status, kept.data.params["seed.from_step_1"]) == ("FINISHED", "2")
    assert [(one.step, one.value) for one in client.get_metric_history(run_id, "train/loss")] == [
        (1, 2.0),
        (2, 1.5),
        (3, 1.0),
        (4, 0.5),
    ]
    assert [one.step for one in client.get_metric_history(run_id, "score/x _y_")] == [1, 2]
    assert [one.step for one in client.get_metric_history(run_id, "eval/loss")] == [2]
    table = mlflow.load_table("answers/longbench/qmsum/step_2.json", [run_id])
    assert table["answer"].tolist() == ["<b>", "x"]
    assert table["score"].dropna().tolist() == [0.5]
    assert json.loads(mlflow.artifacts.load_text(f"runs:/{run_id}/config.json")) == {"seed": 1, "text": "a" * 7_000}
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/report.html") == "<p>the page</p>"

    third = mlflow_tracker()  # the store has lost the run that is to be gone on with
    assert third.open(facts(step=1, run_id="0" * 32)) not in (run_id, "0" * 32)
    third.close("finished")
    with mlflow.start_run() as mine:
        fourth = mlflow_tracker()
        assert fourth.open(facts()) == mine.info.run_id
        fourth.log(1, {"train/loss": 2.0})
        fourth.close("finished")
        fifth = mlflow_tracker()  # another training in a run of the user's own begins at step 1, too
        fifth.open(facts())
        fifth.log(1, {"train/loss": 1.0})
        assert [one.value for one in client.get_metric_history(mine.info.run_id, "train/loss")] == [2.0, 1.0]
        assert mlflow.active_run().info.run_id == mine.info.run_id
    assert len(client.search_runs(["0"])) == 3
