"""Preference rows, as each tool writes them, become two conversations that differ in the last message only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft.data.conversations import read_conversations
from sft.data.formats import FormatOptions, detect_pairs
from sft.data.formats.preference import PAIR_FORMATS
from sft.data.sources import parse_sources
from sft.data.types import Conversation, Row, Source
from sft.errors import DataError, RowError

ASK = {"role": "user", "content": "2 + 2?"}
FOUR, FIVE = ({"role": "assistant", "content": answer} for answer in ("4", "5"))
CHAT = [("user", "2 + 2?"), ("assistant", "4")], [("user", "2 + 2?"), ("assistant", "5")]


def converted(
    values: dict[str, Any], columns: dict[str, str] | None = None, **options: Any
) -> tuple[str, Conversation]:
    row = Row(values, Source("d.json", 2))
    detection = detect_pairs([row], columns or {})
    convert = PAIR_FORMATS[detection.format_type]
    return detection.format_type, convert(row, FormatOptions(columns=columns or {}, pairs=True, **options))


def turns(conversation: Conversation | None) -> list[tuple[str, str]]:
    assert conversation is not None
    return [(message.role, message.content) for message in conversation.messages]


@pytest.mark.parametrize(
    ("values", "columns", "format_type"),
    [
        ({"prompt": [ASK], "chosen": [FOUR], "rejected": [FIVE]}, {}, "prompt_completion"),
        ({"prompt": [ASK], "chosen": "4", "rejected": "5"}, {}, "prompt_completion"),
        ({"prompt": "2 + 2?", "chosen": [FOUR], "rejected": [FIVE]}, {}, "prompt_completion"),
        ({"prompt": "2 + 2?", "chosen": [ASK, FOUR], "rejected": [ASK, FIVE], "messages": [ASK, FOUR]}, {}, "messages"),
        ({"messages": [ASK], "chosen": FOUR, "rejected": FIVE}, {}, "messages"),
        (
            {
                "conversations": [{"from": "human", "value": "2 + 2?"}],
                "chosen": {"from": "gpt", "value": "4"},
                "rejected": {"from": "gpt", "value": "5"},
            },
            {},
            "messages",
        ),
        ({"instruction": "2 + 2?", "chosen": "4", "rejected": "5"}, {}, "alpaca"),
        ({"question": "2 + 2?", "chosen": "4", "rejected": "5"}, {}, "custom"),
        ({"q": "2 + 2?", "good": "4", "bad": "5"}, {"prompt": "q", "chosen": "good", "rejected": "bad"}, "custom"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else value,
)
def test_one_question_in_many_spellings(values: dict[str, Any], columns: dict[str, str], format_type: str) -> None:
    found, pair = converted(values, columns)
    assert found == format_type
    assert (turns(pair), turns(pair.rejected)) == CHAT
    assert [message.train for message in pair.messages] == [False, None]


def test_texts_stay_texts() -> None:
    _, explicit = converted({"prompt": "2 + 2 = ", "chosen": "4", "rejected": "5"})
    assert (explicit.text, explicit.prompt) == ("2 + 2 = 4", "2 + 2 = ")
    assert explicit.rejected is not None
    assert (explicit.rejected.text, explicit.rejected.prompt) == ("2 + 2 = 5", "2 + 2 = ")
    found, implicit = converted({"chosen": "2 + 2 = 4", "rejected": "2 + 2 = 5"})
    assert (found, implicit.prompt) == ("text", "2 + 2 =")  # the space belongs to the answer, as TRL has it


def test_system_history_and_context_are_kept() -> None:
    row = {"instruction": "And 3 + 3?", "input": "Briefly.", "system": "Count.", "history": [["2 + 2?", "4"]]}
    _, pair = converted({**row, "chosen": "6", "rejected": "7"})
    assert turns(pair) == [
        ("system", "Count."), ("user", "2 + 2?"), ("assistant", "4"), ("user", "And 3 + 3?\n\nBriefly."),
        ("assistant", "6"),
    ]  # fmt: skip
    assert turns(pair.rejected)[:-1] == turns(pair)[:-1]
    assert [message.train for message in pair.messages] == [False] * 4 + [None]
    _, told = converted({"instruction": "2 + 2?", "chosen": "4", "rejected": "5"}, system_prompt="Count.")
    assert turns(told)[0] == turns(told.rejected)[0] == ("system", "Count.")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"chosen": [ASK, FOUR], "rejected": [{**ASK, "content": "3 + 3?"}, FIVE]}, "do not answer the same prompt"),
        ({"chosen": [ASK, FOUR, ASK], "rejected": [ASK, FOUR, ASK]}, "'chosen' does not end with an answer"),
        ({"messages": [ASK], "chosen": "4", "rejected": 5}, "'rejected' is a number"),
        ({"messages": [ASK], "chosen": "4", "rejected": ""}, "empty answer"),
        ({"chosen": "Yes", "rejected": "No"}, "share no prompt"),
        ({"prompt": [ASK], "chosen": "4", "rejected": None}, "'rejected' is null"),
    ],
    ids=lambda value: value if isinstance(value, str) else "row",
)
def test_rows_that_are_no_pair_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        converted(values)


def test_data_without_pairs_is_refused_with_the_way_on() -> None:
    with pytest.raises(DataError, match=r"d\.json:2: stage dpo reads.*'instruction', 'output'.*stage: sft"):
        converted({"instruction": "2 + 2?", "output": "4"})


@pytest.mark.parametrize("name", ["firefly/dummy_dpo.jsonl", "llamafactory/dpo_en_demo.json"])
def test_real_rows(shared_data: Path, name: str) -> None:
    """Each row against the file itself."""
    path = shared_data / name
    text = path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
    found = read_conversations(parse_sources(path), pairs=True).conversations
    assert len(found) == len(rows)
    for row, pair in zip(rows, found, strict=True):
        for side, key in ((pair, "chosen"), (pair.rejected, "rejected")):
            whole = row[key] if isinstance(row[key], list) else [*row["conversations"], row[key]]
            contents = [turn["content"] if "content" in turn else turn["value"] for turn in whole]
            assert side is not None
            assert [message.content for message in side.messages] == contents
            assert side.messages[-1].role == "assistant"
