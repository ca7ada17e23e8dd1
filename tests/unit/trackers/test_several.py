"""Trackers cannot stop a run, and figures have names that say what they count."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sft.trackers.names import named
from sft.trackers.several import KNOWN, Trackers, make_trackers, unread_variables
from sft.trackers.tracker import Ending, RunFacts, Table, Tracker

TOKEN = "hf_aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0hJ3kM6"
FACTS = RunFacts(name="run", project="p", folder=Path("run"), config={"seed": 1})
TABLE = Table(name="qmsum", columns=("id", "answer"), rows=(("1", "a"),), left_out=4)


class Notebook(Tracker):
    """Keeps what it is told, and fails where it is asked to."""

    name = "notebook"

    def __init__(self, fails_at: str | None = None) -> None:
        self.fails_at = fails_at
        self.told: list[Any] = []

    def take(self, what: str, *told: Any) -> None:
        if what == self.fails_at:
            raise ConnectionError(f"no route,\n  token {TOKEN}")
        print("a tracker speaks")
        self.told.append((what, *told))

    def open(self, facts: RunFacts) -> str:
        self.take("open", facts.run_id)
        return facts.run_id or "new"

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self.take("log", step, dict(figures))

    def add_table(self, step: int, table: Table) -> None:
        self.take("table", step, table.title)

    def add_page(self, page: Path, step: int) -> None:
        self.take("page", page)

    def close(self, ending: Ending) -> None:
        self.take("close", ending)


def tell_everything(trackers: Trackers) -> None:
    trackers.open(FACTS)
    trackers.log(1, {"train/loss": 2.0})
    trackers.add_table(1, TABLE)
    trackers.log(2, {"train/loss": 1.0})
    trackers.add_page(Path("report.html"), 2)
    trackers.close("finished")
    trackers.close("failed")


@pytest.mark.parametrize("fails_at", ["open", "log", "table", "page", "close"])
def test_one_that_fails_is_said_once_and_the_others_go_on(fails_at: str, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = Notebook(), Notebook(fails_at)
    said: list[str] = []
    trackers = Trackers({"bad": lambda: bad, "good": lambda: good}, said.append)
    tell_everything(trackers)
    assert [what for what, *_ in good.told] == ["open", "log", "table", "log", "page", "close"]
    assert good.told[-1] == ("close", "finished")
    assert good.told[2] == ("table", 1, "qmsum: 1 of 5 rows")
    assert len(said) == 1
    assert said[0].startswith("bad is left out from here on: ")
    assert "ConnectionError: no route, token [a Hugging Face token]." in said[0]
    assert TOKEN not in said[0]
    assert fails_at == "open" or trackers.run_ids["bad"] == "new"
    assert capsys.readouterr().out == ""


def test_a_library_that_is_not_there_is_said() -> None:
    def absent() -> Tracker:
        raise ModuleNotFoundError("No module named 'wandb'")

    said: list[str] = []
    trackers = Trackers({"wandb": absent}, said.append)
    tell_everything(trackers)
    assert (len(said), trackers.run_ids, trackers.open_names) == (1, {}, ())


def test_a_run_is_gone_on_with_by_its_id() -> None:
    tracker = Notebook()
    trackers = Trackers({"one": lambda: tracker}, print)
    trackers.run_ids["one"] = "old"
    trackers.open(FACTS)
    assert tracker.told == [("open", "old")]
    assert trackers.run_ids == {"one": "old"}


def test_ours_are_known_by_the_names_of_report_to() -> None:
    assert make_trackers(["comet_ml", *reversed(KNOWN), "wandb"], print).names == tuple(reversed(KNOWN))


def test_what_only_transformers_reads_is_not_passed_over_in_silence() -> None:
    environment = {"WANDB_LOG_MODEL": "checkpoint", "WANDB_WATCH": "false", "MLFLOW_TAGS": '{"a": "b"}'}
    assert unread_variables(["tensorboard", "wandb"], environment) == ["WANDB_LOG_MODEL"]
    assert unread_variables(["mlflow"], environment) == ["MLFLOW_TAGS"]


def test_figures_say_what_they_count() -> None:
    logs = {"loss": 2, "eval_loss": 1.5, "tokens": 10, "entropy": 3.0, "eval_rewards/margins": 0.5, "note": "text"}
    assert named(logs) == {
        "train/loss_per_trained_token": 2.0,
        "eval/loss_per_trained_token": 1.5,
        "train/tokens_since_last_logged": 10.0,
        "train/entropy": 3.0,
        "eval/rewards/margins": 0.5,
    }
    assert {"train/loss_per_pair", "eval/loss_per_pair"} <= named(logs, of_pairs=True).keys()
