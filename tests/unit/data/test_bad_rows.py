"""The list of rows that cannot be used: whole, bounded, and without anything that rows say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sft.config import SFTConfig
from sft.data import bad_rows, report
from sft.data.answers import snippet
from sft.data.bad_rows import BAD_ROWS, list_bad_rows
from sft.data.conversations import read_conversations
from sft.data.formats.fields import shorten
from sft.data.prepare import prepare
from sft.data.report import DataReport, count_reasons
from sft.data.sources import parse_sources
from sft.data.types import BadRow, Source
from sft.errors import DataError, TooManyBadRows

SECRET = "my blood pressure"


def bad(number: int, reason: str = "empty answer") -> BadRow:
    return BadRow(Source("d.jsonl", number), reason, "Mend it")


def test_a_run_that_is_refused_lists_all_of_them_until_they_are_mended(
    tiny_tokenizer_folder: Path, tmp_path: Path
) -> None:
    rows = [{"instruction": SECRET, "output": "fine" if number % 2 else ""} for number in range(40)]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run").mkdir()
    options: dict[str, Any] = {
        "model_name_or_path": str(tiny_tokenizer_folder), "data_path": str(path), "cache_dir": str(tmp_path / "cache"),
        "output_dir": str(tmp_path / "run"), "max_length": 64,
    }  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    listed = tmp_path / "run" / BAD_ROWS
    with pytest.raises(DataError) as refused:
        prepare(SFTConfig(**options), tokenizer, quiet=True)
    assert str(refused.value).endswith(f"All of them are listed in {listed}.")
    entries = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [entry["line"] for entry in entries] == list(range(1, 41, 2))
    assert entries[0] == {
        "file": str(path), "line": 1, "reason": "empty answer", "advice": "Message 2 of 2 (assistant) has no text",
    }  # fmt: skip
    data = prepare(SFTConfig(**options, max_bad_rows=20), tokenizer, quiet=True)
    assert not listed.exists()
    assert (data.cache.folder / "train" / BAD_ROWS).read_text().count("\n") == 20
    assert data.train.report.bad_rows == []  # they are in the file, not in memory


def test_it_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (bad_rows, report):
        monkeypatch.setattr(module, "LISTED", 5)
    one, other = DataReport(), DataReport()
    for number in range(4):
        one.reject(bad(number))
        other.reject(bad(number + 4))
    one.add(other)
    assert one.rejected.total() == 8
    assert [row["line"] for row in one.bad_rows] == [0, 1, 2, 3, 4]
    assert list_bad_rows(one.bad_rows, tmp_path / BAD_ROWS).startswith("The first 5 of them are listed")


def test_without_room_for_it_the_message_is_as_it_was(tmp_path: Path) -> None:
    assert list_bad_rows([], tmp_path / BAD_ROWS) == ""
    assert list_bad_rows([{"file": "d"}], tmp_path / "gone" / BAD_ROWS) == ""


def test_as_many_reasons_as_rows_make_a_short_message(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    roles = [{"role": f"wizard {number}", "content": "a"} for number in range(500)]
    path.write_text("".join(json.dumps({"messages": [role]}) + "\n" for role in roles))
    with pytest.raises(TooManyBadRows) as refused:
        read_conversations(parse_sources([str(path)]))
    assert len(str(refused.value)) < 6_000
    assert len(refused.value.rows) == 500
    many = DataReport()
    for number in range(500):
        many.reject(bad(number, f"unknown role 'wizard {number}'"))
    assert count_reasons(many.rejected).endswith("488 for 488 other reasons")


@pytest.mark.parametrize(
    "row",
    [
        {"messages": SECRET},
        {"messages": [SECRET]},
        {"messages": [{"role": SECRET * 9, "content": "a"}]},
        {"messages": [{"role": "user", "content": [SECRET]}]},
        {"messages": [{"role": "assistant", "content": "a", "weight": SECRET}]},
        {"messages": [{"role": "assistant", "content": "a", "tool_calls": [SECRET]}]},
        {"messages": [{"role": "assistant", "content": "a"}], "train": SECRET},
        {"messages": [{"role": "assistant", "content": "a"}], "tools": {"a": SECRET}},
        {SECRET * 9: "a"},
        [SECRET],
        SECRET,
    ],
)
def test_no_message_repeats_what_a_row_says(row: object, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    for text in (json.dumps(row), json.dumps(row) + SECRET, json.dumps(row)[:-1]):
        path.write_text(json.dumps(good) + "\n" + text + "\n")
        with pytest.raises(TooManyBadRows) as refused:
            read_conversations(parse_sources([str(path)]))
        assert f"{path}:2: " in str(refused.value)
        assert SECRET not in str(refused.value) + json.dumps(refused.value.rows)


def test_what_is_shown_of_values_and_texts() -> None:
    assert [shorten(value) for value in (None, True, 7, 1.5, 10**30, SECRET, [1, 2], {"a": 1})] == [
        "null", "true", "7", "1.5", "a number of more than 20 digits", "a text of 17 characters", "a list of 2",
        "an object of 1",
    ]  # fmt: skip
    assert snippet("<think>\n12 mg</think><|im_end|>") == "'<think>\\nxx xx</think><|im_end|>'"
