from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.data.conversations import ConversationSet, read_conversations
from sft.data.sources import parse_sources
from sft.errors import DataError

CHAT = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]


def alpaca(*questions: str) -> list[dict[str, str]]:
    return [{"instruction": question, "output": f"answer to {question}"} for question in questions]


def write(path: Path, rows: list[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(data_path: Any, *, max_bad_rows: int = 0, seed: int = 0, **asked: Any) -> ConversationSet:
    return read_conversations(parse_sources(data_path, **asked), max_bad_rows=max_bad_rows, seed=seed)


def questions(found: ConversationSet) -> list[str]:
    return [conversation.messages[0].content for conversation in found.conversations]


def test_sources_follow_each_other_and_each_has_its_own_format(tmp_path: Path):
    first = write(tmp_path / "a.jsonl", alpaca("1", "2"))
    second = write(tmp_path / "b.jsonl", [{"messages": CHAT}])
    found = read([first, second])
    assert questions(found) == ["1", "2", "hello"]
    assert found.formats == {first: "alpaca: rows have instruction and output", second: "messages: rows have messages"}
    assert (found.num_rows, found.rejected, found.notes) == (3, Counter(), [])
    assert str(found.conversations[1].source) == f"{first}:2"


def test_files_of_a_folder_may_differ_in_format_and_skipped_files_are_noted(tmp_path: Path):
    write(tmp_path / "a.jsonl", alpaca("1"))
    write(tmp_path / "b.jsonl", [{"question": "2", "answer": "x"}])
    (tmp_path / "LICENSE").write_text("free")
    found = read(str(tmp_path))
    assert questions(found) == ["1", "2"]
    assert [text.split(":")[0] for text in found.formats.values()] == ["alpaca", "custom"]
    assert found.notes == [f"{tmp_path}: 2 data files are read; skipped: LICENSE"]


def test_a_format_that_is_given_is_not_questioned(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [{"messages": CHAT, "label": True}])
    assert read(path, format_type="messages").formats == {path: "messages: as format_type says"}
    with pytest.raises(DataError, match=r"a\.jsonl:1: no column 'instruction'"):
        read(path, format_type="alpaca")


def test_columns_are_held_against_the_rows_even_when_the_format_is_given(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [{"question": "a", "answer": "b"}])
    with pytest.raises(DataError, match="prompt is 'quesion', but no row has that column; did you mean 'question'"):
        read(path, format_type="custom", columns={"prompt": "quesion"})


def test_too_many_bad_rows_are_listed_and_counted(tmp_path: Path):
    rows: list[Any] = [*alpaca("1", "2"), *({"instruction": "x", "output": ""} for _ in range(12)), ["list"]]
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError) as caught:
        read(path, max_bad_rows=12)
    message = str(caught.value)
    assert message.startswith("13 of 15 rows cannot be used, and max_bad_rows allows 12.")
    assert f"\n  {path}:3: empty answer." in message
    assert message.count(f"\n  {path}:") == 10
    assert "... and 3 more" in message
    assert "12 x empty answer, 1 x not an object" in message
    assert "--max_bad_rows 13 would go on without them" in message
    found = read(path, max_bad_rows=13)
    assert questions(found) == ["1", "2"]
    assert found.rejected == {"empty answer": 12, "not an object": 1}
    assert found.rejected_places[0].startswith(f"{path}:3: empty answer")


def test_when_every_row_is_bad_going_on_is_not_offered(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [{"instruction": "x", "output": ""}])
    with pytest.raises(DataError, match="1 of 1 rows") as caught:
        read(path)
    assert "would go on" not in str(caught.value)
    with pytest.raises(DataError, match=r"all 1 rows are bad.*nothing is left"):
        read(path, max_bad_rows=1)


def test_no_rows_at_all_is_an_error_that_names_the_file(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [])
    with pytest.raises(DataError, match=r"a\.jsonl: no rows"):
        read(path)


def test_a_limit_takes_the_first_rows_good_or_bad(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [*alpaca("1"), {"instruction": "2", "output": ""}, *alpaca("3", "4")])
    found = read([{"path": path, "limit": 3}], max_bad_rows=1)
    assert questions(found) == ["1", "3"]
    assert (found.num_rows, found.rejected.total()) == (3, 1)


def test_a_limit_counts_over_the_files_of_a_folder(tmp_path: Path):
    write(tmp_path / "a.jsonl", alpaca("1", "2"))
    write(tmp_path / "b.jsonl", alpaca("3", "4"))
    write(tmp_path / "c.jsonl", [{"unknown": 1}])
    assert questions(read([{"path": str(tmp_path), "limit": 3}])) == ["1", "2", "3"]
    assert questions(read([{"path": str(tmp_path), "limit": 4}])) == ["1", "2", "3", "4"]


def test_weights_repeat_and_sample_with_the_seed(tmp_path: Path):
    names = [str(number) for number in range(20)]
    path = write(tmp_path / "a.jsonl", alpaca(*names))
    assert questions(read([{"path": path, "weight": 2}])) == names * 2
    half = questions(read([{"path": path, "weight": 0.5}], seed=1))
    assert len(half) == len(set(half)) == 10
    assert half == sorted(half, key=int)
    assert half == questions(read([{"path": path, "weight": 0.5}], seed=1))
    assert half != questions(read([{"path": path, "weight": 0.5}], seed=2))
    more = read([{"path": path, "weight": 1.25}])
    assert (len(more.conversations), more.num_rows) == (25, 20)
    assert set(questions(more)) == set(names)


def test_a_weight_that_leaves_nothing_is_an_error(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", alpaca("1"))
    with pytest.raises(DataError, match="weights are so small"):
        read([{"path": path, "weight": 0.1}])


def test_the_first_rows_may_all_be_bad_if_enough_are_allowed(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [[n] for n in range(300)] + alpaca("1"))
    assert questions(read(path, max_bad_rows=300)) == ["1"]


text_or_worse = st.sampled_from(["a", "", " ", None, 3, ["x"], {"y": 1}])
any_row = st.one_of(
    st.fixed_dictionaries({"instruction": text_or_worse, "output": text_or_worse}, optional={"input": text_or_worse}),
    st.fixed_dictionaries({"instruction": st.just("a"), "output": st.just("b")}),
    st.just({"other": "x"}),
    st.sampled_from([None, 1, "text", ["a"], []]),
)


@given(st.lists(any_row, min_size=1, max_size=30), st.integers(1, 40), st.sampled_from([".json", ".jsonl"]))
def test_every_row_read_is_a_conversation_or_counted(rows: list[Any], limit: int, ending: str):
    rows = [*alpaca("a good row"), *rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"d{ending}"
        path.write_text(json.dumps(rows, indent=1) if ending == ".json" else "\n".join(map(json.dumps, rows)))
        found = read([{"path": str(path), "limit": limit}], max_bad_rows=len(rows))
    assert found.num_rows == min(limit, len(rows))
    assert found.num_rows == len(found.conversations) + found.rejected.total()
    assert len(found.rejected_places) == min(10, found.rejected.total())
    assert len(found.conversations) == sum(map(is_usable, rows[:limit]))


def test_sample_takes_as_many_conversations_as_asked_for_by_seed(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", alpaca(*map(str, range(20))))
    few = [questions(read([{"path": path, "sample": 5}], seed=seed)) for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2]
    assert [len(set(chosen)) for chosen in few] == [5, 5, 5]
    many = Counter(questions(read([{"path": path, "sample": 45}])))
    assert many.total() == 45
    assert set(many.values()) == {2, 3}, "each twice, and five of them once more"


def test_sources_name_the_keys_and_roles_of_their_own_turns(tmp_path: Path):
    talk = [
        {"who": "agent", "said": "hello"},
        {"who": "human", "said": "and?"},
        {"who": "lookup", "said": '{"name": "find", "arguments": {"key": 1}}'},
        {"who": "found", "said": "2"},
        {"who": "gpt", "said": "two"},
    ]
    turns = write(tmp_path / "turns.jsonl", [{"talk": talk, "system": "be kind"}])
    usual = write(
        tmp_path / "usual.jsonl", [{"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}]
    )
    entry = {
        "path": turns,
        "format_type": "sharegpt",
        "columns": {"messages": "talk"},
        "role_key": "who",
        "content_key": "said",
        "role_names": {"agent": "system", "lookup": "function_call", "found": "tool"},
        "only_columns": True,
    }
    first, second = read([entry, usual]).conversations
    assert [message.role for message in first.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert first.messages[2].tool_calls[0]["function"] == {"name": "find", "arguments": {"key": 1}}
    assert [message.content for message in second.messages] == ["x", "y"]
    with pytest.raises(DataError, match="needs who"):
        read([{**entry, "path": usual, "columns": {"messages": "conversations"}}])


@pytest.mark.parametrize("format_type", ["alpaca", "custom"])
def test_columns_that_are_not_named_can_be_left_unread(tmp_path: Path, format_type: str):
    row = {"instruction": "q", "output": "a", "input": "b", "system": "s", "history": [["c", "d"]]}
    path = write(tmp_path / "a.jsonl", [row])
    entry = {"path": path, "format_type": format_type, "columns": {"prompt": "instruction", "response": "output"}}
    (full,) = read([entry]).conversations
    (bare,) = read([{**entry, "only_columns": True}]).conversations
    assert [message.content for message in full.messages] == ["s", "c", "d", "q\n\nb", "a"]
    assert [message.content for message in bare.messages] == ["q", "a"]


def test_system_messages_of_a_source_can_be_left_out(tmp_path: Path):
    turns = [("system", "s"), ("user", "q"), ("assistant", "a")]
    rows = [{"messages": [{"role": role, "content": content} for role, content in turns]}]
    path = write(tmp_path / "rows.jsonl", rows)
    found = read([{"path": path, "drop_system": True}, path])
    assert [[message.role for message in one.messages] for one in found.conversations] == [
        ["user", "assistant"],
        ["system", "user", "assistant"],
    ]


def is_usable(row: Any) -> bool:
    """What an alpaca row needs, said once more in other words."""
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("instruction", "output")):
        return False
    beside = row.get("input") or ""
    return isinstance(beside, str) and bool(row["output"].strip() and (row["instruction"] + beside).strip())


broken_list = st.binary(max_size=40).map(lambda data: b'[{"instruction": "a", "output": "b"},' + data)


@given(
    st.binary(max_size=80) | broken_list,
    st.sampled_from([".json", ".jsonl", ".csv", ".tsv", ".json.gz", ".jsonl.zst", ".parquet"]),
)
def test_any_bytes_under_any_ending_are_rows_or_a_readable_error(data: bytes, ending: str):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"d{ending}"
        path.write_bytes(data)
        try:
            found = read(str(path), max_bad_rows=1000)
        except DataError as error:
            message = str(error)
            assert f"d{ending}" in message
            assert "Traceback" not in message
        else:
            assert found.num_rows == len(found.conversations) + found.rejected.total() > 0
