"""Rows of token ids: they are the example, checked against the tokenizer; labels are what transformers trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sft.config import SFTConfig
from sft.data.formats import FORMATS, PAIR_FORMATS, FormatOptions, detect_format
from sft.data.prepare import prepare
from sft.data.types import Conversation, Row, Source
from sft.errors import DataError, RowError
from sft.training.dataset import SFTDataset

SOURCE = Source("rows.jsonl", 1)
IDS = [7, 8, 9, 10]


def convert(**values: Any) -> Conversation:
    return FORMATS["tokens"](Row(values, SOURCE), FormatOptions())


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"labels": IDS}, "no column 'input_ids'"),
        ({"input_ids": "[1, 2"}, "'input_ids' is text that is"),
        ({"input_ids": 5}, "'input_ids' is a number, not a list"),
        ({"input_ids": [1, "2"]}, "'input_ids' is not a list of whole numbers"),
        ({"input_ids": [1, True]}, "'input_ids' is not a list of whole numbers"),
        ({"input_ids": [1, -3]}, "'input_ids' holds what is no token id"),
        ({"input_ids": [1, 2**31]}, "'input_ids' holds what is no token id"),
        ({"input_ids": [1, 2**70]}, "'input_ids' holds a number that is too large"),
        ({"input_ids": []}, "no tokens"),
        ({"input_ids": IDS, "attention_mask": [0, 0, 0, 0]}, "no tokens"),
        ({"input_ids": IDS, "labels": IDS[1:]}, "'labels' is not as long as 'input_ids'"),
        ({"input_ids": IDS, "labels": [8, 9, 10, -100]}, "a label is neither its token's id nor -100"),
        ({"input_ids": IDS, "attention_mask": [1, 0, 1, 1]}, "'attention_mask' is 0 between tokens"),
        ({"input_ids": IDS, "attention_mask": [1, 1, 2, 2]}, "'attention_mask' holds other numbers than 0 and 1"),
    ],
)
def test_rows_that_cannot_be_meant_are_bad_rows(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as caught:
        convert(**row)
    assert caught.value.reason.startswith(reason)


def test_padding_is_left_out_and_text_of_tables_is_read() -> None:
    row = convert(input_ids="[0, 7, 8, 9, 0]", attention_mask=[0, 1, 1, 1, 0], labels=[-100, -100, 8, 9, -100])
    assert row.tokens is not None
    assert row.tokens.trained is not None
    assert (row.tokens.ids.tolist(), row.tokens.trained.tolist()) == ([7, 8, 9], [0, 1, 1])


def test_the_format_is_found_where_there_is_no_text() -> None:
    def found(**values: Any) -> str:
        return detect_format([Row(values, SOURCE)], {}).format_type

    assert found(input_ids=IDS, labels=IDS) == "tokens"
    assert found(input_ids=IDS, text="a") == "text"


def test_two_answers_are_not_compared_as_ids() -> None:
    with pytest.raises(RowError, match="stage dpo compares two answers"):
        PAIR_FORMATS["tokens"](Row({"input_ids": IDS}, SOURCE), FormatOptions(pairs=True))


@pytest.fixture
def settings(tiny_tokenizer_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return {"cache_dir": str(tmp_path / "cache"), "tokenizer": AutoTokenizer.from_pretrained(tiny_tokenizer_folder)}


def dataset(settings: dict[str, Any], tmp_path: Path, *rows: dict[str, Any], **options: Any) -> SFTDataset:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return SFTDataset(str(path), **settings, **options)


def test_what_text_becomes_comes_back_from_its_own_ids(
    settings: dict[str, Any], alpaca_file: Path, tmp_path: Path
) -> None:
    """The forty rows, rendered, written down as ids and labels, and read again, are the same examples."""
    rendered = SFTDataset(str(alpaca_file), **settings)
    rows = [{name: values.tolist() for name, values in example.items()} for example in rendered]
    again = dataset(settings, tmp_path, *rows)
    assert [{name: values.tolist() for name, values in example.items()} for example in again] == rows
    assert again.report.trained_tokens == rendered.report.trained_tokens
    assert again.report.stop_token_ids == rendered.report.stop_token_ids


def test_ids_of_another_tokenizer_are_refused_with_both_numbers(settings: dict[str, Any], tmp_path: Path) -> None:
    size = len(settings["tokenizer"])
    with pytest.raises(DataError, match=f"Found {size}; it has {size}, from 0"):
        dataset(settings, tmp_path, {"input_ids": [5, size], "labels": [5, size]})


def test_without_labels_the_user_says_what_is_trained(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="token ids without labels"):
        dataset(settings, tmp_path, {"input_ids": IDS})
    [example] = dataset(settings, tmp_path, {"input_ids": IDS}, train_on="everything")
    assert example["labels"].tolist() == [-100, 8, 9, 10]


def test_weights_lengths_and_rows_without_loss(settings: dict[str, Any], tmp_path: Path) -> None:
    ids = list(range(5, 25))
    rows = [
        {"input_ids": ids, "labels": ids, "weight": 0.5},
        {"input_ids": ids, "labels": [-100] * 20},
        {"input_ids": ids[:6], "labels": ids[:6]},
    ]
    read = dataset(settings, tmp_path, *rows, max_length=8, overlong="cut_end", max_bad_rows=1, min_length=7)
    assert [example["input_ids"].tolist() for example in read] == [ids[:8]]
    assert (read.report.cut, dict(read.report.dropped)) == (1, {"shorter than min_length 7": 1})
    assert list(read.report.rejected) == ["no trained tokens: every label is -100, or the weight of the row is 0"]
    path = str(tmp_path / "rows.jsonl")
    config = SFTConfig(data_path=path, max_bad_rows=1, cache_dir=settings["cache_dir"])
    first = next(iter(prepare(config, settings["tokenizer"]).train.examples))
    assert first.weights is not None
    assert first.weights.tolist() == [0.5] * 20
