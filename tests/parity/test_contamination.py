"""What evaluation asks is kept out of training, on the real sets; and task rows are cut as evaluation cuts them."""

from __future__ import annotations

import csv
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sft.config import SFTConfig
from sft.data.prepare import prepare
from sft.data.readings import open_readings
from sft.errors import DataError
from sft.tasks.overlap import AskedRows
from sft.training.task_data import open_eval_tasks, task_rows


@pytest.fixture
def settings(shared_data: Path, tiny_model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "model_name_or_path": str(tiny_model_folder),
        "cache_dir": str(tmp_path / "cache"),
        "max_length": 1024,
        "longbench_dir": str(shared_data / "longbench"),
        "qmsum_dir": str(shared_data / "qmsum"),
        "truthfulqa_file": str(shared_data / "truthfulqa" / "TruthfulQA-817.csv"),
        "eval_tasks": ["qmsum", "truthfulqa"],
    }


def test_training_on_what_is_asked_drops_all_of_it_and_says_why(
    settings: dict[str, Any], tiny_model_folder: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    config = SFTConfig(**settings, train_tasks=["longbench/qmsum"])
    with pytest.raises(DataError, match=r"200 of 200 rows .* left out: 200 asked by qmsum"):
        prepare(config, tokenizer, more=task_rows(config, tokenizer), quiet=True)


def test_allowed_contamination_is_kept_and_counted(settings: dict[str, Any], tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    config = SFTConfig(**settings, train_tasks=["longbench/qmsum"], allow_contamination=True)
    train = open_readings(config, task_rows(config, tokenizer))["train"]
    assert (len(list(train.conversations())), train.account.overlapping.total()) == (200, 200)


def test_the_own_training_split_keeps_every_row(settings: dict[str, Any], tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    config = SFTConfig(**settings, train_tasks=["qmsum"])
    train = open_readings(config, task_rows(config, tokenizer))["train"]
    account = train.account
    assert (len(list(train.conversations())), account.rows, account.overlapping.total()) == (1257, 1257, 0)


def test_cut_prompts_leave_room_for_their_answers(
    settings: dict[str, Any], tiny_model_folder: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    some = first_meetings(Path(settings["qmsum_dir"]), tmp_path / "qmsum", 8)
    config = SFTConfig(**{**settings, "qmsum_dir": str(some)}, train_tasks=["qmsum"], max_train_samples=40)
    report = prepare(config, tokenizer, more=task_rows(config, tokenizer), quiet=True).train.report
    assert report.examples + report.dropped.total() == 40
    longest_answer = 1024 - 100  # an answer that alone fills max_length cannot be cut for
    assert all(length > longest_answer for length in report.dropped_lengths)
    assert report.examples > 30


def first_meetings(whole: Path, folder: Path, count: int) -> Path:
    """QMSum with a training split of so many meetings."""
    folder.mkdir()
    (folder / "test.jsonl").symlink_to(whole / "test.jsonl")
    with (whole / "train.jsonl").open(encoding="utf-8") as lines:
        (folder / "train.jsonl").write_text("".join(islice(lines, count)), encoding="utf-8")
    return folder


@pytest.mark.parametrize("words", ["{question}", "Tell me: {question}", "{QUESTION}!"])
def test_a_question_in_a_users_own_file_is_found(
    settings: dict[str, Any], shared_data: Path, tmp_path: Path, words: str
) -> None:
    with (shared_data / "truthfulqa" / "TruthfulQA-817.csv").open(encoding="utf-8") as file:
        question = next(csv.DictReader(file))["Question"]
    path = tmp_path / "rows.jsonl"
    asked = words.format(question=question, QUESTION=question.upper())
    rows = [{"instruction": text, "output": "I do not know."} for text in (asked, "What is the sum of 2 and 3?")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = SFTConfig(**{**settings, "eval_tasks": ["truthfulqa"], "data_path": str(path)})
    tokenizer = AutoTokenizer.from_pretrained(config.model_name_or_path)
    train = open_readings(config, task_rows(config, tokenizer))["train"]
    assert [conversation.source.line for conversation in train.conversations()] == [2]
    assert train.account.overlapping.total() == 1


def test_no_real_alpaca_row_is_taken_for_a_meeting(settings: dict[str, Any], shared_data: Path) -> None:
    guard = AskedRows(open_eval_tasks(SFTConfig(**{**settings, "eval_tasks": ["qmsum"]})))
    rows = json.loads((shared_data / "alpaca" / "alpaca_data.json").read_text(encoding="utf-8"))[:2000]
    assert not any(guard.overlap([row["instruction"], row["input"], row["output"]]) for row in rows)
