"""Rows taken out of the training data for the evaluation loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft.config import SFTConfig
from sft.data.readings import open_readings
from sft.errors import DataError


def rows(count: int) -> list[dict[str, str]]:
    return [{"instruction": f"Count to {number}.", "output": f"{number}!"} for number in range(count)]


def answers(path: Path, **options: object) -> tuple[list[str], list[str]]:
    parts = open_readings(SFTConfig(data_path=options.pop("data_path", str(path)), **options))
    train, held_out = (
        [conversation.messages[-1].content for conversation in parts[name].conversations()]
        for name in ("train", "eval")
    )
    return train, held_out


@pytest.mark.parametrize("indent", [None, 1], ids=["one line", "many lines"])
def test_each_row_is_on_one_side(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows(20), indent=indent))
    train, held_out = answers(path, validation_size=5)
    assert (len(train), len(held_out)) == (15, 5)
    assert sorted(train + held_out) == sorted(row["output"] for row in rows(20))
    assert answers(path, validation_size=5) == (train, held_out)


def test_a_row_that_a_weight_repeats_goes_with_all_its_repeats(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows(10)))
    train, held_out = answers(path, data_path=[{"path": str(path), "weight": 3}], validation_size=4)
    assert (len(train), len(held_out)) == (18, 4)
    assert not set(train) & set(held_out)


@pytest.mark.parametrize("weight", [1, 3])
def test_rows_are_those_read_and_what_is_taken_out_is_counted(tmp_path: Path, weight: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows(10), {"nothing": 1}]))
    source = [{"path": str(path), "weight": weight}]
    parts = open_readings(SFTConfig(data_path=source, validation_size=4, max_train_samples=8, max_bad_rows=1))
    account = parts["train"].account
    assert account.rows == 11
    assert account.rejected.total() == 1
    assert account.not_sampled == 10 * weight - 8
    assert account.held_out == parts["eval"].account.conversations == 4
    assert account.conversations == len([*parts["train"].conversations()])


def test_something_must_be_left_to_train(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows(3)))
    with pytest.raises(DataError, match="would hold out 3 of 3 rows"):
        answers(path, validation_size=3)
