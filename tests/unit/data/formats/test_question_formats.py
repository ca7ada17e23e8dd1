"""Alpaca, custom columns, prompt/completion and plain text."""

from __future__ import annotations

from typing import Any

import pytest

from sft.data.formats import FORMATS, FormatOptions
from sft.data.types import Conversation, Row, Source
from sft.errors import RowError


def convert(format_type: str, values: dict[str, Any], **options: Any) -> Conversation:
    return FORMATS[format_type](Row(values, Source("d.json", 3)), FormatOptions(**options))


def spoken(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def reason(format_type: str, values: dict[str, Any], **options: Any) -> str:
    with pytest.raises(RowError) as caught:
        convert(format_type, values, **options)
    assert str(caught.value).startswith("d.json:3: ")
    return caught.value.reason


def test_alpaca_joins_instruction_and_input_and_changes_no_text():
    row = {"instruction": " Add.\n", "input": "1 + 1 ", "output": "\n2 "}
    assert spoken(convert("alpaca", row)) == [("user", " Add.\n\n\n1 + 1 "), ("assistant", "\n2 ")]
    joined = convert("alpaca", row, input_separator="\n")
    assert joined.messages[0].content == " Add.\n\n1 + 1 "


@pytest.mark.parametrize("empty", [{}, {"input": ""}, {"input": None}])
def test_alpaca_without_input_is_the_instruction_alone(empty: dict[str, Any]):
    assert spoken(convert("alpaca", {"instruction": "Hi", "output": "Ho", **empty})) == [
        ("user", "Hi"),
        ("assistant", "Ho"),
    ]


def test_alpaca_with_system_and_history():
    row = {"instruction": "c", "output": "d", "system": "s", "history": [["a", "b"], ["e", "f"]]}
    expected = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "e"), ("assistant", "f"),
                ("user", "c"), ("assistant", "d")]  # fmt: skip
    assert spoken(convert("alpaca", row)) == expected
    assert spoken(convert("alpaca", {**row, "history": '[["a", "b"], ["e", "f"]]'})) == expected
    assert all(message.train is None for message in convert("alpaca", row).messages)


def test_an_empty_instruction_beside_an_input_asks_the_input():
    assert spoken(convert("alpaca", {"instruction": "", "input": "x", "output": "y"}))[0] == ("user", "x")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "a", "output": ""}, "empty answer"),
        ({"instruction": "a", "output": " \n"}, "empty answer"),
        ({"instruction": "", "output": "b"}, "empty prompt"),
        ({"instruction": " ", "input": "", "output": "b"}, "empty prompt"),
        ({"instruction": "a"}, "no column 'output'"),
        ({"output": "a"}, "no column 'instruction'"),
        ({"instruction": "a", "output": None}, "'output' is null, not text"),
        ({"instruction": 7, "output": "b"}, "'instruction' is a number, not text"),
        ({"instruction": True, "output": "b"}, "'instruction' is true or false, not text"),
        ({"instruction": "a", "input": ["x"], "output": "b"}, "'input' is a list, not text"),
        ({"instruction": "a", "output": {"b": 1}}, "'output' is an object, not text"),
        ({"instruction": "a", "output": "b", "system": 3}, "'system' is a number, not text"),
        ({"instruction": "a", "output": "b", "history": [["x"]]}, "'history' is not a list of [question, answer]"),
        ({"instruction": "a", "output": "b", "history": [["x", 1]]}, "'history' is not a list of [question, answer]"),
        ({"instruction": "a", "output": "b", "history": "words"}, "'history' is text that is not valid JSON"),
        ({"instruction": "a", "output": "b", "history": [["x", ""]]}, "empty answer"),
        ({"instruction": "a", "output": "b", "weight": -1}, "'weight' is not a number from 0 on"),
        ({"instruction": "a", "output": "b", "weight": "70kg"}, "'weight' is not a number from 0 on"),
        ({"instruction": "a", "output": "b", "weight": float("inf")}, "'weight' is not a number from 0 on"),
        ({"instruction": "a", "output": "b", "train": "maybe"}, "'train' is neither true nor false"),
        ({"instruction": "a", "output": "b", "chat_template_kwargs": [1]},
         "'chat_template_kwargs' is a list, not an object"),
        ({"instruction": "a", "output": "b", "images": ["x.png"]}, "'images' is not empty"),
        ({}, "no column 'instruction'"),
    ],
)  # fmt: skip
def test_rows_that_alpaca_cannot_read_have_a_reason_that_can_be_counted(row: dict[str, Any], expected: str):
    assert reason("alpaca", row) == expected


def test_the_switches_of_a_row():
    row = {"instruction": "a", "output": "b"}
    plain = convert("alpaca", row)
    assert (plain.weight, plain.template_kwargs, plain.tools) == (1.0, {}, ())
    full = convert(
        "alpaca",
        {**row, "weight": 0.5, "chat_template_kwargs": {"enable_thinking": False}, "tools": '[{"name": "f"}]'},
    )
    assert (full.weight, full.template_kwargs) == (0.5, {"enable_thinking": False})
    assert full.tools == ({"type": "function", "function": {"name": "f"}},)
    assert [message.train for message in convert("alpaca", {**row, "train": False}).messages] == [False, False]
    assert [message.train for message in convert("alpaca", {**row, "train": True}).messages] == [None, None]


def test_tables_of_text_write_switches_as_text_and_leave_them_empty():
    row = {"instruction": "a", "output": "b", "weight": "0.5", "train": "False", "chat_template_kwargs": '{"x": 1}'}
    read = convert("alpaca", row)
    assert (read.weight, read.messages[1].train, read.template_kwargs) == (0.5, False, {"x": 1})
    empty = dict.fromkeys(("weight", "train", "chat_template_kwargs", "tools", "history", "system"), "")
    assert convert("alpaca", {**row, **empty}) == convert("alpaca", {"instruction": "a", "output": "b"})


def test_an_answer_that_is_not_trained_may_be_empty():
    assert convert("alpaca", {"instruction": "a", "output": "", "train": False}).messages[1].train is False


def test_columns_rename_what_a_format_reads():
    columns = {"prompt": "frage", "input": "text", "response": "antwort", "system": "rolle", "weight": "gewicht"}
    row = {"frage": "a", "text": "b", "antwort": "c", "rolle": "s", "gewicht": 2, "weight": "unrelated"}
    read = convert("alpaca", row, columns=columns)
    assert spoken(read) == [("system", "s"), ("user", "a\n\nb"), ("assistant", "c")]
    assert read.weight == 2


@pytest.mark.parametrize(
    ("row", "user", "assistant"),
    [
        ({"question": "a", "answer": "b"}, "a", "b"),
        ({"Question": "a", "ANSWER": "b"}, "a", "b"),
        ({"query": "a", "response": "b"}, "a", "b"),
        ({"prompt": "a", "output": "b"}, "a", "b"),
        ({"instruction": "a", "context": "c", "response": "b"}, "a\n\nc", "b"),
        ({"input": "a", "target": "b"}, "a", "b"),
        ({"input": "c", "question": "a", "answer": "b", "id": 3}, "a\n\nc", "b"),
        ({"problem": "a", "solution": "b", "level": 5}, "a", "b"),
        ({"user": "id-17", "input": "a", "output": "b"}, "a", "b"),
    ],
)
def test_custom_guesses_the_usual_names(row: dict[str, Any], user: str, assistant: str):
    assert spoken(convert("custom", row)) == [("user", user), ("assistant", assistant)]


def test_custom_takes_the_columns_it_is_told_and_guesses_the_rest():
    row = {"question": "x", "ask": "a", "answer": "b", "context": "c"}
    assert spoken(convert("custom", row, columns={"prompt": "ask"})) == [("user", "a\n\nc"), ("assistant", "b")]
    assert reason("custom", row, columns={"prompt": "absent"}) == "no column 'absent'"


def test_custom_says_what_it_looked_for():
    with pytest.raises(
        RowError, match=r"no column for the answer\. Its columns are 'question', 'x'; looked for were output"
    ):
        convert("custom", {"question": "a", "x": "b"})
    assert reason("custom", {"zzz": "a", "answer": "b"}) == "no column for the question"


def test_prompt_and_completion_as_text_are_joined_as_they_are():
    read = convert("prompt_completion", {"prompt": "Q: a\nA:", "completion": " b\n"})
    assert (read.messages, read.text, read.prompt) == ((), "Q: a\nA: b\n", "Q: a\nA:")
    assert convert("prompt_completion", {"prompt": "a", "completion": "b", "train": False}).weight == 0


def test_prompt_and_completion_as_messages_train_the_completion_only():
    prompt = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    for completion in ([{"role": "assistant", "content": "d"}], "d"):
        read = convert("prompt_completion", {"prompt": prompt, "completion": completion})
        assert spoken(read) == [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
        assert [message.train for message in read.messages] == [False, False, False, None]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a", "completion": ""}, "empty answer"),
        ({"prompt": "a"}, "no column 'completion'"),
        ({"prompt": None, "completion": "b"}, "'prompt' is null, not text"),
        ({"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}, "'completion' is a list, not text"),
        ({"prompt": [{"role": "user", "content": "a"}], "completion": []}, "no answer"),
        ({"prompt": [{"role": "user", "content": "a"}], "completion": ""}, "empty answer"),
    ],
)
def test_prompts_and_completions_that_cannot_be_used(row: dict[str, Any], expected: str):
    assert reason("prompt_completion", row) == expected


def test_plain_text_is_kept_whole():
    read = convert("text", {"text": " a\n"})
    assert (read.messages, read.text, read.prompt) == ((), " a\n", None)
    assert convert("text", {"body": "a"}, columns={"text": "body"}).text == "a"
    assert reason("text", {"text": " \n"}) == "empty text"
    assert reason("text", {"text": 3}) == "'text' is a number, not text"


def test_the_general_system_prompt_is_for_conversations_that_have_none():
    row = {"instruction": "a", "output": "b"}
    assert spoken(convert("alpaca", row, system_prompt="general"))[0] == ("system", "general")
    assert spoken(convert("alpaca", {**row, "system": "own"}, system_prompt="general"))[0] == ("system", "own")
    assert convert("text", {"text": "a"}, system_prompt="general").text == "a"
