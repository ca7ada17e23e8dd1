"""What a run does for its page: the summary of its data, its starts and its command, and the page while it trains."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

import sft.report.page
from sft.data.show import decode_trained
from sft.data.store import ExampleStore
from sft.data.types import Source
from sft.evaluation import questions
from sft.report import names
from sft.tasks.task import TaskExample
from sft.training import data_summary, incidents, metrics_file, record, report_page
from sft.training import questions as own_questions
from sft.training.checkpoints import layout, manifest
from sft.training.evaluation_setup import STEP_FOLDER
from sft.training.starts import starts_of, without_secrets

from .reading_pages import read_page


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_names_are_those_that_runs_write() -> None:
    """The page needs no torch to know them; what writes them does."""
    theirs = (record.RECORD, metrics_file.METRICS, incidents.INCIDENTS, data_summary.SUMMARY, questions.QUESTIONS)
    assert theirs == (names.RECORD, names.METRICS, names.INCIDENTS, names.SUMMARY, names.QUESTIONS)
    assert (layout.CHECKPOINT, layout.MANIFEST, STEP_FOLDER) == (names.CHECKPOINT, names.MANIFEST, names.STEP_FOLDER)
    assert manifest.MANIFEST == names.MANIFEST
    assert own_questions.FOLDER == names.OWN_ANSWERS_FOLDER
    named = names.OWN_ANSWERS.fullmatch(own_questions.FILE.format(step=40))
    assert named is not None
    assert named[1] == "40"


def test_the_charts_library_is_the_one_that_is_named() -> None:
    assets = Path(sft.report.page.__file__).parent / "assets"
    library = assets / f"uPlot-{sft.report.page.UPLOT}.iife.min.js"
    assert f"(v{sft.report.page.UPLOT})" in library.read_text(encoding="utf-8")[:80]
    assert "Permission is hereby granted, free of charge" in (assets / "uPlot-LICENSE.txt").read_text(encoding="utf-8")


# ---- a trained run --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(trained_run: Path) -> ExampleStore:
    return ExampleStore(Path(read_json(trained_run / "run.json")["plan"]["cache"]["folder"]) / "train")


def test_a_run_leaves_its_page(trained_run: Path) -> None:
    page = read_page((trained_run / names.PAGE).read_text(encoding="utf-8"))
    page.refuse_foreign_scripts()
    assert "Finished" in page.root.words
    assert page.data["renews"] is None
    assert [mark["step"] for mark in page.data["marks"]] == [4, 8]
    assert "There is no" not in page.root.words
    assert len(page.chart("loss")["curves"][0]["x"]) == 8


def test_lengths_and_sources_count_every_example(trained_run: Path, store: ExampleStore) -> None:
    summary = read_json(trained_run / names.SUMMARY)
    for part in summary["lengths"]:
        here = (store.lengths >= part["begins"]) & (store.lengths <= part["ends"])
        assert part["examples"] == here.sum()
    assert sum(part["examples"] for part in summary["lengths"]) == len(store) == summary["examples_counted"]
    (source,) = summary["sources"]
    plan = read_json(trained_run / "run.json")["plan"]
    assert [source[name] for name in ("examples", "tokens", "trained_tokens")] == [
        plan[name] for name in ("examples", "tokens", "trained_tokens")
    ]


def test_examples_are_what_their_names_say(trained_run: Path, store: ExampleStore, tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    shown = {one["why"]: one for one in read_json(trained_run / names.SUMMARY)["examples"]}
    (longest,) = [one for why, one in shown.items() if "the longest" in why]
    assert longest["tokens"] == store.lengths.max()
    assert min(one["tokens"] for one in shown.values()) == store.lengths.min()
    by_place = {(str(example.source), example.turn): example for example in store}
    for one in shown.values():
        example = by_place[one["source"], one["turn"]]
        assert "".join(text for text, _ in one["segments"]) == tokenizer.decode(example.input_ids.tolist())
        assert [text for text, is_trained in one["segments"] if is_trained] == decode_trained(example, tokenizer)
        assert one["trained_tokens"] == example.num_trained_tokens
        decoded = tokenizer.decode(example.input_ids.tolist())
        assert one["special"] == [text for text in ("<|im_end|>", "<|im_start|>") if text in decoded] != []


def test_a_long_example_keeps_its_ends(store: ExampleStore, tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    ids = np.arange(5000, dtype=np.int32) % 300 + 3
    example = SimpleNamespace(input_ids=ids, loss_mask=np.ones(5000, np.uint8))
    head, left_out, tail = data_summary.segments(example, tokenizer)  # type: ignore[arg-type]
    assert left_out == ["\n[…3,400 tokens left out…]\n", None]
    assert head[0] == tokenizer.decode(ids[:1200].tolist())
    assert tail[0] == tokenizer.decode(ids[-400:].tolist())


def test_trained_lengths_of_some_are_those_of_all(store: ExampleStore) -> None:
    for number in (0, 1, 7, len(store)):
        assert store.trained_lengths_of(number).tolist() == store.trained_lengths[:number].tolist()


@pytest.mark.parametrize(
    "lengths", [[5], [5, 5, 5], list(range(1, 200)), [10] * 500 + [100_000], [1, 2, 3, 10**6], [7, 8] * 50]
)
def test_bars_hold_every_length_once(lengths: list[int]) -> None:
    array = np.array(lengths, np.int64)
    bars = data_summary.histogram(array)
    assert 1 <= len(bars) <= data_summary.BARS + 1
    assert sum(bar["examples"] for bar in bars) == len(lengths)
    assert all(bar["begins"] <= bar["ends"] for bar in bars)
    assert [bar["begins"] for bar in bars[1:]] == [bar["ends"] + 1 for bar in bars[:-1]]


# ---- starts and commands --------------------------------------------------------------------------------------------


def test_the_command_is_kept_without_secrets() -> None:
    secret = "hf_" + "a1B2" * 9
    words = [
        "sft",
        "train",
        "x.yaml",
        "--hub_token",
        "abcdefgh12",
        f"--note={secret}",
        "--api-key=12345678",
        "--seed",
        "3",
    ]
    kept = without_secrets(words)
    assert kept == ["sft", "train", "x.yaml", "--hub_token", "***", "--note=***", "--api-key=***", "--seed", "3"]


def test_starts_of_a_resumed_run_are_all_kept() -> None:
    first = starts_of(None, 0)
    assert [one["step"] for one in first] == [0]
    second = starts_of({"starts": first}, 20)
    assert [one["step"] for one in starts_of({"starts": second}, 40)] == [0, 20, 40]
    assert [one["step"] for one in starts_of({"starts": second}, 0)] == [0], "a run that begins anew has one"
    assert [one["step"] for one in starts_of({"starts": "damaged"}, 5)] == [5]


# ---- while it trains ------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(report_page, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def log(callback: report_page.ReportPage, *, is_first: bool = True) -> None:
    state = SimpleNamespace(is_world_process_zero=is_first, global_step=3, max_steps=10)
    callback.on_log(SimpleNamespace(), state, SimpleNamespace())  # type: ignore[arg-type]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[float]:
    """When pages were written; each takes two seconds."""
    times: list[float] = []

    def write(runs: list[Path], output: Path) -> Path:
        times.append(clock.now)
        clock.now += 2
        return output

    monkeypatch.setattr(sft.report.page, "write_page", write)
    return times


def test_pages_are_as_seldom_as_they_are_dear(written: list[float], clock: Clock, tmp_path: Path) -> None:
    callback = report_page.ReportPage(tmp_path)
    callback.on_train_begin(SimpleNamespace(), SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    log(callback)
    assert written == [], "a short run has no page before its end"
    while clock.now < 500:
        log(callback)
        clock.now += 1
    assert written == [105.0, 207.0, 309.0, 411.0], "two seconds in a hundred"


def test_other_processes_write_no_page(written: list[float], clock: Clock, tmp_path: Path) -> None:
    callback = report_page.ReportPage(tmp_path)
    clock.now += 1000
    log(callback, is_first=False)
    assert written == []


def test_a_page_that_fails_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(runs: list[Path], output: Path) -> Path:
        raise RuntimeError("no room")

    monkeypatch.setattr(sft.report.page, "write_page", fail)
    callback = report_page.ReportPage(tmp_path)
    for _ in range(3):
        clock.now += 1000
        log(callback)
    said = capsys.readouterr()
    assert (said.out + said.err).count("could not be written: RuntimeError: no room") == 1, "said once"


# ---- questions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "asked"),
    [
        ({"context": "A long meeting.", "input": "Who spoke?"}, "Who spoke?"),
        ({"question": "Is it so?"}, "Is it so?"),
        ({"context": "word " * 200, "input": ""}, ("word " * 200).strip()[:600] + " […399 characters left out…]"),
    ],
)
def test_a_question_is_kept_without_what_it_is_about(inputs: dict[str, str], asked: str) -> None:
    example = TaskExample(id="1", inputs=inputs, references=("x",), source=Source("f", 1))
    assert questions.question_of(example) == asked
