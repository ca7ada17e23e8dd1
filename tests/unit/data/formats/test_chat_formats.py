"""ShareGPT and chat messages."""

from __future__ import annotations

from typing import Any

import pytest

from sft.data.formats import FORMATS, FormatOptions
from sft.data.formats.options import ROLE_NAMES
from sft.data.types import Conversation, Message, Row, Source
from sft.errors import RowError


def convert(format_type: str, values: dict[str, Any], **options: Any) -> Conversation:
    return FORMATS[format_type](Row(values, Source("d.jsonl", 4)), FormatOptions(**options))


def chat(*turns: Any, **beside: Any) -> dict[str, Any]:
    return {"messages": list(turns), **beside}


def user(content: Any = "a", **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any = "b", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def messages(row: dict[str, Any], **options: Any) -> tuple[Message, ...]:
    return convert("messages", row, **options).messages


def failure(row: dict[str, Any], format_type: str = "messages") -> RowError:
    with pytest.raises(RowError) as caught:
        convert(format_type, row)
    assert str(caught.value).startswith(f"d.jsonl:4: {caught.value.reason}")
    return caught.value


CALL = {"type": "function", "function": {"name": "search", "arguments": {"q": ["x"], "n": None}}}


def test_every_turn_is_kept_in_order_and_unchanged():
    turns = [
        ("system", " s "),
        ("user", "a\n"),
        ("assistant", " b"),
        ("user", ""),
        ("assistant", "<think>t</think>\nd"),
    ]
    read = messages(chat(*({"role": role, "content": content} for role, content in turns)))
    assert [(message.role, message.content) for message in read] == turns
    assert all(message.reasoning is None and message.train is None and message.weight == 1 for message in read)


@pytest.mark.parametrize(("name", "meaning"), [*ROLE_NAMES.items(), ("GPT", "assistant"), ("Human", "user")])
def test_roles_have_many_names(name: str, meaning: str):
    call = '{"name": "search", "arguments": {}}'
    turn = {"from": name, "value": call}
    read = convert("sharegpt", {"conversations": [turn, {"from": "gpt", "value": "b"}]}).messages[0]
    if meaning == "function_call":
        assert (read.role, read.content, read.tool_calls[0]["function"]["name"]) == ("assistant", "", "search")
    else:
        assert (read.role, read.content) == (meaning, call)


def test_roles_can_be_given_a_meaning():
    row = chat({"role": "wizard", "content": "a"}, {"role": "bot", "content": "b"}, {"role": "user", "content": "c"})
    read = messages(row, role_names={"wizard": "user", "user": "assistant"})
    assert [message.role for message in read] == ["user", "assistant", "assistant"]


@pytest.mark.parametrize("format_type", ["messages", "sharegpt"])
@pytest.mark.parametrize("column", ["messages", "conversations", "conversation"])
@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_both_formats_read_both_spellings_in_any_of_the_usual_columns(format_type, column, keys):
    turns = [dict(zip(keys, turn, strict=True)) for turn in (("user", "a"), ("assistant", "b"))]
    assert [message.content for message in convert(format_type, {column: turns}).messages] == ["a", "b"]


def test_pairs_and_plain_texts_are_turns_too():
    pairs = {"conversation": [{"human": "a", "assistant": "b"}, {"human": "c", "assistant": "d"}]}
    texts = {"conversations": ["a", "b", "c", "d"]}
    for row in (pairs, texts):
        read = convert("sharegpt", row).messages
        assert [(message.role, message.content) for message in read] == [
            ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"),
        ]  # fmt: skip


def test_turns_and_tools_may_be_json_text_as_tables_hold_them():
    row = {"messages": '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]', "tools": "[]"}
    read = convert("messages", row)
    assert [message.content for message in read.messages] == ["a", "b"]
    assert read.tools == ()


def test_tools_are_in_the_form_that_servers_send():
    """A bare function, as LLaMA-Factory's files have it, is put into it; all else stays untouched."""
    bare = {"name": "f", "parameters": {"type": "dict", "x": None}}
    whole = [{"type": "function", "function": {"name": "g"}}, {"type": "code_interpreter"}, {"type": "x", "name": "h"}]
    tools = convert("messages", chat(user(), assistant(), tools=[bare, *whole])).tools
    assert tools == ({"type": "function", "function": bare}, *whole)


@pytest.mark.parametrize(
    "call",
    [
        CALL,
        {"function": {"name": "search", "arguments": '{"q": ["x"], "n": null}'}},
        {"name": "search", "arguments": {"q": ["x"], "n": None}},
        {"name": "search", "parameters": '{"q": ["x"], "n": null}'},
    ],
)
def test_tool_calls_are_brought_into_the_shape_that_templates_read(call: dict[str, Any]):
    for content in ("", None):
        assert messages(chat(user(), assistant(content, tool_calls=[call])))[1].tool_calls == (CALL,)
    assert messages(chat(user(), {"role": "assistant", "tool_calls": [call]}))[1].content == ""


def test_a_tool_call_keeps_its_id_and_the_answer_of_the_tool_refers_to_it():
    call = {"id": "c1", **CALL}
    reply = {"role": "tool", "content": "", "tool_call_id": "c1", "name": "search"}
    read = messages(chat(user(), assistant("", tool_calls=[call]), reply, assistant()))
    assert read[1].tool_calls == (call,)
    assert (read[2].role, read[2].content, read[2].tool_call_id, read[2].name) == ("tool", "", "c1", "search")


def test_a_function_call_of_sharegpt_may_hold_several():
    turns = [
        {"from": "human", "value": "a"},
        {
            "from": "function_call",
            "value": '[{"name": "f", "arguments": {}}, {"name": "g", "arguments": "{\\"x\\": 1}"}]',
        },
        {"from": "observation", "value": "[1, 2]"},
        {"from": "gpt", "value": "b"},
    ]
    read = convert("sharegpt", {"conversations": turns}).messages
    assert [message.role for message in read] == ["user", "assistant", "tool", "assistant"]
    assert [call["function"] for call in read[1].tool_calls] == [
        {"name": "f", "arguments": {}},
        {"name": "g", "arguments": {"x": 1}},
    ]


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_thoughts_of_the_assistant_are_kept_apart(key: str):
    assert messages(chat(user(), assistant("b", **{key: " t\n"})))[1].reasoning == " t\n"
    assert messages(chat(user("a", **{key: "t"}), assistant()))[0].reasoning is None
    assert messages(chat(user(), assistant("", **{key: "t"})))[1].content == ""


def test_content_in_parts():
    parts = [
        {"type": "reasoning", "value": "t"},
        {"type": "text", "text": "b"},
        {"type": "text", "value": "c"},
        {"type": "tool_call", "value": '{"name": "search", "arguments": {"q": ["x"], "n": null}}'},
    ]
    read = messages(chat(user([{"type": "text", "text": "a"}]), assistant(parts)))
    assert (read[0].content, read[1].content, read[1].reasoning, read[1].tool_calls) == ("a", "bc", "t", (CALL,))


@pytest.mark.parametrize(
    ("turn", "train", "weight"),
    [
        (assistant(train=False), False, 1),
        (assistant(train=True), True, 1),
        (assistant(loss=False), False, 1),
        (assistant(loss=0), False, 1),
        (assistant(weight=0), False, 0),
        (assistant(weight=1), None, 1),
        (assistant(weight=0.25), None, 0.25),
        (assistant(loss_weight=0.0), False, 0),
        (assistant(train=True, weight=0), False, 0),
        (assistant(train=None, weight=None), None, 1),
        (assistant("", train=False), False, 1),
    ],
)
def test_switches_of_a_turn(turn: dict[str, Any], train: bool | None, weight: float):
    read = messages(chat(user(), turn, user(), assistant()))[1]
    assert (read.train, read.weight) == (train, weight)


def test_a_row_that_is_not_trained_overrules_its_turns():
    read = messages(chat(user(), assistant(train=True), train=False))
    assert [message.train for message in read] == [False, False]


def test_conversations_that_only_a_template_can_judge_are_taken_as_they_are():
    for turns in ([assistant(), user(), assistant()], [user(), user(), assistant()], [user(), assistant(), user()]):
        assert len(messages(chat(*turns))) == 3


def test_a_system_column_goes_first_and_must_not_contradict():
    row = chat(user(), assistant(), system="s")
    assert [message.content for message in messages(row)] == ["s", "a", "b"]
    inside = chat({"role": "system", "content": "s"}, user(), assistant(), system="s")
    assert [message.content for message in messages(inside)] == ["s", "a", "b"]
    assert failure({**inside, "system": "t"}).reason == "two system messages"
    assert [message.content for message in messages(chat(user(), assistant()), system_prompt="g")] == ["g", "a", "b"]
    assert [message.content for message in messages(inside, system_prompt="g")] == ["s", "a", "b"]


@pytest.mark.parametrize(
    ("row", "reason", "advice"),
    [
        ({"x": 1}, "no column 'messages'", "'x'"),
        (chat(), "no messages", ""),
        ({"messages": None}, "'messages' is null, not a list", ""),
        ({"messages": {"role": "user"}}, "'messages' is an object, not a list", ""),
        ({"messages": "hello"}, "'messages' is text that is not valid JSON", ""),
        ({"messages": "[" * 100_000}, "'messages' is text that is nested too deeply", ""),
        (chat("a", "b"), "a message is text, not an object", "Message 1"),
        (chat({"content": "a"}), "a message has no role", "'content'"),
        (chat({"role": 3, "content": "a"}), "a message has no role", "it is 3"),
        (chat({"role": "wizard", "content": "a"}), "unknown role 'wizard'", "role_names: {wizard: assistant}"),
        (chat(user(), {"role": "assistant"}), "a message has no content", "Message 2"),
        (chat(user(), assistant(None)), "content is null, not text", "Message 2"),
        (chat(user(3), assistant()), "content is a number, not text", "Message 1"),
        (chat(user({"text": "a"}), assistant()), "content is an object, not text", ""),
        (chat(user(), assistant("")), "empty answer", "Message 2 of 2"),
        (chat(user(), assistant(" \n"), user(), assistant()), "empty answer", "Message 2 of 4"),
        (chat(user()), "no answer", "roles are user"),
        (chat(user([{"type": "image", "url": "x"}]), assistant()), "content part of type 'image'", "text, tool_call"),
        (chat(user(["a"]), assistant()), "content part of type null", ""),
        (chat(user([{"type": "text"}]), assistant()), "content part is null, not text", ""),
        (chat(user(), assistant([{"type": "text", "text": "b"}, {"type": "reasoning", "value": "t"}])),
         "content part of type 'reasoning' after one that templates write later", ""),
        (chat(user(), assistant(reasoning_content=["t"])), "'reasoning_content' is a list, not text", ""),
        (chat(user(), assistant(tool_calls=[{"arguments": {}}])), "a tool call has no name", ""),
        (chat(user(), assistant(tool_calls=[3])), "a tool call has no name", "holds 3"),
        (chat(user(), assistant(tool_calls=[{"name": "f", "arguments": "{x}"}])),
         "'arguments' is text that is not valid JSON", ""),
        (chat(user(), assistant(tool_calls=[{"name": "f", "arguments": [1]}])),
         "tool call arguments are a list, not an object", ""),
        (chat(user(), assistant(weight=-1)), "'weight' is not a number from 0 on", ""),
        (chat(user(), assistant(loss=1.37)), "'loss' is neither true nor false", "1.37"),
        (chat(user(), assistant(name=3)), "'name' of a message is a number, not text", ""),
        (chat(user(), assistant(), tools={"name": "f"}), "'tools' is an object, not a list", ""),
        (chat(user(), assistant(), tools=[3]), "a tool is a number, not an object", ""),
        (chat(user(), assistant(), tools="[{]"), "'tools' is text that is not valid JSON", ""),
        (chat(user(), assistant(), images=["x"]), "'images' is not empty", ""),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_read_have_a_reason_that_can_be_counted(row: dict[str, Any], reason: str, advice: str):
    error = failure(row)
    assert error.reason == reason
    assert advice in error.advice


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"conversation": [{"human": "a", "asistant": "b"}]}, "a pair has no 'assistant'"),
        ({"conversation": [{"human": "a", "assistant": None}]}, "'assistant' of a pair is null, not text"),
        ({"conversation": [{"human": "a", "assistant": "b"}, "c"]}, "'human' of a pair is null, not text"),
        ({"conversation": [{"human": "a", "assistant": ""}]}, "empty answer"),
        ({"conversations": ["a", 3]}, "a turn is a number, not text"),
        ({"conversations": ["a"]}, "no answer"),
        ({"conversations": [{"from": "function_call", "value": "call f"}]},
         "'tool_calls' is text that is not valid JSON"),
        ({"conversations": 3}, "'conversations' is a number, not a list"),
    ],
)  # fmt: skip
def test_sharegpt_rows_that_cannot_be_read(row: dict[str, Any], reason: str):
    assert failure(row, "sharegpt").reason == reason
