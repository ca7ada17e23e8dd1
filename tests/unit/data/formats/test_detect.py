from __future__ import annotations

from typing import Any

import pytest

from sft.data.formats import FORMATS, FormatOptions, check_columns_exist, detect_format
from sft.data.types import Row, Source
from sft.errors import DataError


def rows(*values: dict[str, Any]) -> list[Row]:
    return [Row(one, Source("d.json", number)) for number, one in enumerate(values, 1)]


TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
SHARED = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]


@pytest.mark.parametrize(
    ("row", "columns", "found"),
    [
        ({"instruction": "a", "output": "b"}, {}, "alpaca: rows have instruction and output"),
        ({"instruction": "a", "output": "b", "text": "a b"}, {}, "alpaca: rows have instruction and output"),
        ({"conversations": SHARED}, {}, "sharegpt: rows have conversations with from and value"),
        ({"messages": SHARED}, {}, "sharegpt: rows have messages with from and value"),
        ({"conversations": TURNS}, {}, "sharegpt: rows have conversations"),
        ({"conversation": [{"human": "a", "assistant": "b"}]}, {}, "sharegpt: rows have conversation"),
        ({"messages": TURNS, "prompt": "a"}, {}, "messages: rows have messages"),
        ({"messages": []}, {}, "messages: rows have messages"),
        ({"chat": TURNS}, {"messages": "chat"}, "messages: rows have chat"),
        ({"chat": SHARED}, {"messages": "chat"}, "sharegpt: rows have chat with from and value"),
        ({"prompt": "a", "completion": "b"}, {}, "prompt_completion: rows have prompt and completion"),
        ({"text": "a"}, {}, "text: rows have text and no answer apart from it"),
        ({"text": "a", "id": 3}, {}, "text: rows have text and no answer apart from it"),
        ({"body": "a", "question": "b", "answer": "c"}, {"text": "body"},
         "text: rows have body and no answer apart from it"),
        ({"question": "a", "answer": "b"}, {}, "custom: question is the question, answer the answer"),
        ({"instruction": "a", "context": "", "response": "b"}, {},
         "custom: instruction is the question, context beside it, response the answer"),
        ({"frage": "a", "antwort": "b"}, {"prompt": "frage", "response": "antwort"},
         "custom: frage is the question, antwort the answer"),
        ({"messages": TURNS, "q": "a", "answer": "b"}, {"prompt": "q"}, "custom: q is the question, answer the answer"),
        ({"chosen": TURNS, "rejected": TURNS, "prompt": "a"}, {"messages": "chosen"}, "messages: rows have chosen"),
        ({"chosen": "a", "rejected": "b", "prompt": "c"}, {"response": "chosen"},
         "custom: prompt is the question, chosen the answer"),
    ],
)  # fmt: skip
def test_the_format_is_found_out_and_explained(row: dict[str, Any], columns: dict[str, str], found: str):
    detection = detect_format(rows(row, row), columns)
    assert str(detection) == found
    if row.get("messages") != []:
        assert FORMATS[detection.format_type](rows(row)[0], FormatOptions(columns=columns)).source.line == 1


def test_rows_that_fit_nothing_are_left_to_conversion_if_others_fit():
    assert detect_format(rows({"id": 1}, {"instruction": "a", "output": "b"}), {}).format_type == "alpaca"


def test_a_later_row_that_is_written_differently_is_pointed_out():
    mixed = [{"instruction": "a", "output": "b"}] * 57 + [{"messages": TURNS}]
    with pytest.raises(DataError) as caught:
        detect_format(rows(*mixed), {})
    assert str(caught.value).startswith(
        "d.json:58: this row reads as messages: rows have messages; but d.json:1 as alpaca"
    )
    assert "set format_type" in str(caught.value)


def test_when_nothing_fits_the_columns_seen_and_a_way_on_are_told():
    many = {f"column_{number}": "x" for number in range(20)}
    with pytest.raises(DataError) as caught:
        detect_format(rows({"title": "a"}, many), {})
    message = str(caught.value)
    assert message.startswith("d.json:1: ")
    for part in ("'title', 'column_0'", "'column_10' and 9 more", "alpaca (instruction, output)", "columns: {prompt:"):
        assert part in message


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        (
            {"conversations": SHARED, "chosen": SHARED[1], "rejected": SHARED[1]},
            ["DPO", "use data with one answer a row"],
        ),
        ({"prompt": "a", "chosen": TURNS, "rejected": TURNS}, ["DPO", "columns: {messages: chosen}"]),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, ["DPO", "columns: {response: chosen}"]),
        ({"messages": TURNS, "label": False}, ["KTO", "set format_type"]),
        ({"prompt": "a", "completion": "b", "label": True}, ["KTO"]),
    ],
)
def test_preference_data_is_refused_with_a_hint(row: dict[str, Any], parts: list[str]):
    with pytest.raises(DataError) as caught:
        detect_format(rows({"id": 1}, row), {})
    assert str(caught.value).startswith("d.json:2: ")
    for part in parts:
        assert part in str(caught.value)


def test_a_label_that_is_a_class_is_no_preference():
    assert detect_format(rows({"messages": TURNS, "label": "sports"}), {}).format_type == "messages"


def test_a_mapping_to_a_column_that_no_row_has_is_refused():
    with pytest.raises(
        DataError, match=r"d\.json: columns says that prompt is 'qestion'.*did you mean 'question'\? Columns seen"
    ):
        check_columns_exist(rows({"question": "a", "answer": "b"}), {"prompt": "qestion"})
    check_columns_exist(rows({"answer": "b"}, {"question": "a"}), {"prompt": "question"})
