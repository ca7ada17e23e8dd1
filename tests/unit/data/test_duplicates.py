"""Rows that say the same are seen once; what is kept is what pandas keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sft.config import SFTConfig
from sft.data.conversations import read_conversations
from sft.data.readings import open_readings
from sft.data.sources import parse_sources
from sft.training.dataset import SFTDataset

A = {"instruction": "Add 1 and 1.", "output": "2"}
B = {"instruction": "Add 1 and 1.", "output": "3"}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def rows(name: str, *values: dict[str, Any]) -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
        return str(path)

    return rows


def kept(*sources: Any) -> list[str]:
    found = read_conversations(parse_sources(list(sources)))
    left = open_readings(SFTConfig(data_path=list(sources), deduplicate=True))["train"]
    assert left.account.rows == found.num_rows
    return [str(conversation.source).rpartition("/")[2] for conversation in left.conversations()]


def test_the_first_of_equal_rows_stays_across_files(write: Any) -> None:
    assert kept(write("a.jsonl", A, B, A), write("b.jsonl", B, {**A, "input": "now"}, A)) == [
        "a.jsonl:1", "a.jsonl:2", "b.jsonl:2",
    ]  # fmt: skip


def test_every_difference_counts(write: Any) -> None:
    ask, answer = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    rows = [
        {"messages": [ask, answer]},
        {"messages": [ask, {**answer, "weight": 2}]},
        {"messages": [ask, {**answer, "reasoning_content": "so"}]},
        {"messages": [ask, answer], "tools": [tool]},
        {"messages": [ask, answer], "weight": 3},
        {"messages": [ask, answer], "chat_template_kwargs": {"enable_thinking": False}},
    ]
    assert len(kept(write("chats.jsonl", *rows, *rows))) == len(rows)
    tokens = [
        {"input_ids": [1, 2], "labels": [-100, 2]},
        {"input_ids": [1, 2], "labels": [1, 2]},
        {"input_ids": [1, 2]},
    ]
    assert len(kept(write("ids.jsonl", *tokens, *tokens))) == 3


def test_what_a_weight_repeats_is_repeated_on_purpose(write: Any) -> None:
    assert kept({"path": write("a.jsonl", A, A, B), "weight": 2}) == ["a.jsonl:1", "a.jsonl:3"] * 2


def test_the_account_of_rows_and_the_choice_of_the_user(
    write: Any, tiny_tokenizer_folder: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    path, cache = write("a.jsonl", A, B, A, A), str(tmp_path / "cache")
    assert len(SFTDataset(path, tokenizer, cache_dir=cache)) == 4
    once = SFTDataset(path, tokenizer, cache_dir=cache, deduplicate=True)
    assert (len(once), once.report.rows, once.report.duplicates) == (2, 4, 2)
