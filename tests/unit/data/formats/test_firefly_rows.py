"""Rows as Firefly and LIMA write them, read from files with nothing said about their format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sft.data.conversations import ConversationSet, read_conversations
from sft.data.sources import parse_sources
from sft.errors import DataError

FIREFLY = [
    {
        "conversation_id": 7,
        "category": "Brainstorming",
        "source": "nlp",
        "system": "You are brief.",
        "conversation": [{"human": " a \n", "assistant": "b"}, {"human": "c", "assistant": "d\n"}],
    },
    {"conversation": [{"human": "e", "assistant": "f"}]},
]
LIMA = [
    {"conversations": ["a", "b"], "source": "stackexchange"},
    {"conversations": ["a", "b", "c", "d"], "source": "multi_turn"},
    {"conversations": ["a", "b", "c"], "source": "multi_turn"},
]


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path | str, **options: Any) -> ConversationSet:
    return read_conversations(parse_sources(str(path)), **options)


def turns(found: ConversationSet) -> list[list[tuple[str, str]]]:
    return [[(turn.role, turn.content) for turn in one.messages] for one in found.conversations]


def test_firefly(tmp_path: Path) -> None:
    """Every turn, the row's system message before them, text untouched, other fields left alone."""
    found = read(write(tmp_path / "rows.jsonl", FIREFLY))
    assert turns(found) == [
        [("system", "You are brief."), ("user", " a \n"), ("assistant", "b"), ("user", "c"), ("assistant", "d\n")],
        [("user", "e"), ("assistant", "f")],
    ]
    assert all(turn.train is None for one in found.conversations for turn in one.messages)
    assert list(found.formats.values()) == ["sharegpt: rows have conversation"]


def test_firefly_s_system_is_the_whole_conversation_s_and_wins_over_the_general_one(tmp_path: Path) -> None:
    found = read(write(tmp_path / "rows.jsonl", FIREFLY), system_prompt="General.")
    assert [messages[0] for messages in turns(found)] == [("system", "You are brief."), ("system", "General.")]


def test_lima(tmp_path: Path) -> None:
    """Texts that take turns, the user first. An odd last one has no answer, and nothing of it is trained."""
    found = read(write(tmp_path / "train.jsonl", LIMA))
    assert turns(found) == [
        [("user", "a"), ("assistant", "b")],
        [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
        [("user", "a"), ("assistant", "b"), ("user", "c")],
    ]
    assert list(found.formats.values()) == ["sharegpt: rows have conversations"]


@pytest.mark.parametrize(
    "empty",
    [
        {"conversation": [{"human": "a", "assistant": "b"}, {"human": "c", "assistant": " "}]},
        {"conversation": [{"human": "a", "assistant": ""}]},
    ],
    ids=["second answer", "only answer"],
)
def test_an_empty_answer_is_one_bad_row_that_is_counted(empty: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [*FIREFLY, empty])
    with pytest.raises(DataError, match=r"1 of 3 rows cannot be used(.|\n)*rows\.jsonl:3(.|\n)*--max_bad_rows 1"):
        read(path)
    found = read(path, max_bad_rows=1)
    assert (found.num_rows, len(found.conversations), found.rejected.total()) == (3, 2, 1)
    assert list(found.rejected) == ["empty answer"]


def test_an_empty_text_of_lima_s_is_one_bad_row_too(tmp_path: Path) -> None:
    found = read(write(tmp_path / "train.jsonl", [*LIMA, {"conversations": ["a", ""]}]), max_bad_rows=1)
    assert (len(found.conversations), found.rejected) == (3, {"empty answer": 1})


def test_lima_in_a_folder_of_its_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "GAIR" / "lima" / "train.jsonl", LIMA[:2])
    write(tmp_path / "GAIR" / "lima" / "test.jsonl", LIMA[2:])
    monkeypatch.chdir(tmp_path)
    assert len(read("GAIR/lima").conversations) == 2


def test_real_rows_of_firefly(shared_data: Path) -> None:
    path = shared_data / "firefly" / "dummy_data.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = read(path)
    assert found.num_rows == len(rows) == 33
    for row, messages in zip(rows, turns(found), strict=True):
        pairs = [(pair["human"], pair["assistant"]) for pair in row["conversation"]]
        assert messages == [one for user, answer in pairs for one in (("user", user), ("assistant", answer))]


HUB = """
import json, os, shutil, sys
from glob import glob
import datasets
from sft.data.conversations import read_conversations
from sft.data.sources import parse_sources

home = sys.argv[1]
built = datasets.load_dataset("json", data_files=f"{home}/train.jsonl", split="train")
(folder,) = [path for path in glob(f"{home}/datasets/json/*/*/*") if os.path.isdir(path)]
cached = f"{home}/datasets/GAIR___lima/plain_text/0.0.0/" + "0" * 40
shutil.copytree(folder, cached)
os.rename(f"{cached}/json-train.arrow", f"{cached}/lima-train.arrow")
info = json.load(open(f"{cached}/dataset_info.json"))
info |= {"builder_name": "parquet", "dataset_name": "lima", "config_name": "plain_text"}
json.dump(info, open(f"{cached}/dataset_info.json", "w"))
os.remove(f"{home}/train.jsonl")
found = read_conversations(parse_sources("GAIR/lima"))
turns = [[[turn.role, turn.content] for turn in one.messages] for one in found.conversations]
print(json.dumps([found.formats, turns]))
"""


@pytest.mark.slow
def test_lima_by_its_hub_name(tmp_path: Path) -> None:
    """By `datasets` itself, from a cache as a download leaves it, in a process that may not use the network."""
    pytest.importorskip("datasets")
    write(tmp_path / "train.jsonl", LIMA)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HUB, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    formats, found = json.loads(done.stdout)
    assert formats == {"GAIR/lima": "sharegpt: rows have conversations"}
    assert found == [
        [["assistant" if number % 2 else "user", text] for number, text in enumerate(row["conversations"])]
        for row in LIMA
    ]
