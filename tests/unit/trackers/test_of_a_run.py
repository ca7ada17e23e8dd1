"""A run that dies and is gone on with, as its trackers have it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from sft.config import SFTConfig
from sft.training.assembled import RunResult
from sft.training.metrics_file import read_metrics
from sft.training.run import run_training

from .conftest import Listener, forget_wandb
from .offline_file import config as wandb_config
from .offline_file import records
from .offline_file import rows as wandb_rows

BODY = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0hJ3kM6"
SECRETS = {
    "HF_TOKEN": f"hf_{BODY}",
    "WANDB_API_KEY": f"wandb_v1_{BODY[::-1]}",
    "MLFLOW_TRACKING_PASSWORD": f"pw{BODY}",
    "OPENAI_API_KEY": f"sk-proj-{BODY}",
    "AWS_ACCESS_KEY_ID": "AKIAQWERTYUIOPASDFGH",
}
LOCAL = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "trackio": ("trackio",), "wandb": ("wandb",)}
TRACKERS = ["tensorboard", *(name for name, needed in LOCAL.items() if all(map(importlib.util.find_spec, needed)))]


class Crash(TrainerCallback):  # type: ignore[misc]
    """Ends a run as a bug would, after the trackers were told of a step that no checkpoint has."""

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise RuntimeError("a bug")


@pytest.fixture
def config(
    own_machine: Listener,
    trackers_home: Path,
    tiny_model_folder: Path,
    alpaca_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> SFTConfig:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    questions = tmp_path / "questions.txt"
    questions.write_text("Who are you?\n")
    longbench = tmp_path / "longbench"
    longbench.mkdir()
    row = {"context": "The sea is wide.", "length": 4, "dataset": "hotpotqa", "language": "en", "all_classes": None}
    asked = [{**row, "_id": f"q{n}", "input": f"How wide, {n}?", "answers": [f"{n} miles"]} for n in range(3)]
    (longbench / "hotpotqa.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    return SFTConfig(
        model_name_or_path=str(tiny_model_folder),
        data_path=str(alpaca_file),
        validation_size=5,
        output_dir=str(tmp_path / "run"),
        cache_dir=str(tmp_path / "cache"),
        report_to=TRACKERS,
        run_name="a name",
        max_length=64,
        max_steps=4,
        logging_steps=1,
        eval_steps=2,
        save_steps=2,
        save_in_background=False,
        per_device_train_batch_size=2,
        longbench_dir=str(longbench),
        eval_tasks=["hotpotqa"],
        eval_samples=2,
        gen_questions_file=str(questions),
        gen_every_n_steps=2,
        gen_max_new_tokens=4,
    )


@pytest.fixture
def trackers_home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where Trackio writes, if it is there."""
    return Path(request.getfixturevalue("trackio_folder")) if "trackio" in TRACKERS else tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_config_figures_answers_and_page_reach_each_in_one_run(
    config: SFTConfig, tmp_path: Path, trackers_home: Path
) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        run_training(config, callbacks=[Crash()])
    ids = tracked_runs(tmp_path / "run" / "checkpoint-2")
    assert sorted(ids) == sorted(TRACKERS)
    result = run_training(config)
    assert result.resumed_from == tmp_path / "run" / "checkpoint-2"
    assert tracked_runs(tmp_path / "run" / "checkpoint-4") == ids
    forget_wandb()
    readers = {"tensorboard": see_tensorboard, "wandb": see_wandb, "mlflow": see_mlflow, "trackio": see_trackio}
    for name in TRACKERS:
        readers[name](tmp_path / "run", ids[name], result)
    for path in [*tmp_path.rglob("*"), *trackers_home.rglob("*")]:
        held = [name for name, secret in SECRETS.items() if path.is_file() and secret.encode() in path.read_bytes()]
        assert not held, path


def tracked_runs(checkpoint: Path) -> dict[str, str]:
    return dict(json.loads((checkpoint / "training_state.json").read_text())["trackers"])


def losses_of(run: Path) -> list[tuple[int, float]]:
    """What the run's own file says."""
    return [(line["step"], line["loss"]) for line in read_metrics(run / "metrics.jsonl") if "loss" in line]


def answers_of(run: Path, step: int) -> list[str]:
    """The same of answers."""
    path = next((run / f"eval_step_{step}").glob("*hotpotqa*_predictions.jsonl"))
    return [json.loads(line)["pred"] for line in path.read_text().splitlines()]


LOSS, EVALUATED = "train/loss_per_trained_token", "eval/loss_per_trained_token"


def see_tensorboard(run: Path, run_id: str, result: RunResult) -> None:
    import html

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / run_id), size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars(LOSS)]
    assert found == [(step, pytest.approx(loss)) for step, loss in losses_of(run)]
    assert [event.step for event in events.Scalars(EVALUATED)] == [0, 2, 4]
    assert [event.step for event in events.Scalars("score/longbench/hotpotqa/qa_f1")] == [0, 2, 4]
    tables = {event.step: event.tensor_proto.string_val[0].decode() for event in events.Tensors(ANSWERS + TEXT)}
    for step in (0, 2, 4):
        shown = html.unescape(tables[step]).replace("<br>", "\n")
        assert all(f"| {answer} |" in shown for answer in answers_of(run, step))
        assert "1 miles" in shown
    options = events.Tensors(f"config{TEXT}")[0].tensor_proto.string_val[0].decode()
    assert "| learning_rate | 2e-05 |" in options
    assert [event.step for event in events.Tensors(f"answers/questions{TEXT}")] == [0, 2, 4]
    assert "report.html" in events.Tensors(f"page{TEXT}")[0].tensor_proto.string_val[0].decode()


ANSWERS, TEXT = "answers/longbench/hotpotqa", "/text_summary"


def see_wandb(run: Path, run_id: str, result: RunResult) -> None:
    files = sorted(Path("wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    assert [path.name for path in files] == [f"run-{run_id}.wandb"] * 2
    steps = [[row["_step"] for row in wandb_rows(path)] for path in files]
    assert steps == [[0, 1, 2, 3], [3, 4]]
    rows = {row["_step"]: row for path in files for row in wandb_rows(path)}
    assert [(step, row[LOSS]) for step, row in rows.items() if LOSS in row] == losses_of(run)
    assert rows[4][EVALUATED] == pytest.approx(result.eval_loss)
    assert all(f"{ANSWERS}._type" in rows[step] for step in (0, 2, 4))
    tables = [json.loads(path.read_text()) for path in Path("wandb").rglob("hotpotqa_*.table.json")]
    assert answers_of(run, 4) in [[row[2] for row in table["data"]] for table in tables]
    assert wandb_config(files[0])["learning_rate"] == 2e-05
    ends = [record.exit.exit_code for path in files for record in records(path) if record.HasField("exit")]
    assert ends == [1, 0]
    pages = [one.artifact for one in records(files[1]) if one.HasField("artifact") and one.artifact.type == "report"]
    assert Path(pages[0].manifest.contents[0].local_path).read_bytes() == (run / "report.html").read_bytes()


def see_mlflow(run: Path, run_id: str, result: RunResult) -> None:
    import mlflow

    client = mlflow.MlflowClient()
    kept = client.get_run(run_id)
    assert (kept.info.status, kept.info.run_name) == ("FINISHED", "a name")
    assert [one.info.run_id for one in client.search_runs([kept.info.experiment_id])] == [run_id]
    history = [(one.step, one.value) for one in client.get_metric_history(run_id, LOSS)]
    assert sorted(history) == [(step, pytest.approx(loss)) for step, loss in losses_of(run)]
    assert kept.data.metrics[EVALUATED] == pytest.approx(result.eval_loss)
    assert kept.data.params["learning_rate"] == "2e-05"
    table = mlflow.load_table(f"{ANSWERS}/step_4.json", [run_id])
    assert table["answer"].tolist() == answers_of(run, 4)
    page = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/report.html")
    assert Path(page).read_bytes() == (run / "report.html").read_bytes()


def see_trackio(run: Path, run_id: str, result: RunResult) -> None:
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    found = {one.name: one for one in trackio.Api().runs("huggingface")}
    assert run_id == "a name"
    assert found[run_id].config["learning_rate"] == 2e-05
    lines = SQLiteStorage.get_logs("huggingface", run_id)
    history = [(line["step"], line[LOSS]) for line in lines if LOSS in line]
    assert sorted(history) == losses_of(run)
    tables = {line["step"]: line[ANSWERS]["_value"] for line in lines if ANSWERS in line}
    assert [row["answer"] for row in tables[4]] == answers_of(run, 4)
    assert [one["name"] for one in SQLiteStorage.list_artifacts("huggingface")] == ["page"]


def test_a_tracker_that_cannot_write_does_not_stop_the_run(
    own_machine: Listener,
    tiny_model_folder: Path,
    alpaca_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "a file" / "below"))
    result = run_training(
        SFTConfig(
            model_name_or_path=str(tiny_model_folder),
            data_path=str(alpaca_file),
            output_dir=str(tmp_path / "run"),
            cache_dir=str(tmp_path / "cache"),
            report_to="tensorboard",
            report_page=False,
            max_steps=2,
            logging_steps=1,
            save_strategy="no",
            per_device_train_batch_size=2,
        )
    )
    assert result.steps == 2
    said = capsys.readouterr().err
    assert said.count("tensorboard is left out from here on: it could not begin: NotADirectoryError") == 1
