"""Bad data files: each is refused in one readable message with file and line, by the reader and by the command line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import NamedTuple

import pytest

from sft.data.conversations import read_conversations
from sft.data.sources import parse_sources
from sft.errors import DataError


class BadFile(NamedTuple):
    """A file, where it must be said to be bad, and with which words."""

    name: str
    content: bytes
    place: str
    words: str
    format_type: str | None = None


def rows(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def chat(*turns: object, **beside: object) -> bytes:
    return rows({"messages": [GOOD_CHAT[0], *turns], **beside})


GOOD = {"instruction": "Say a.", "output": "a"}
GOOD_CHAT = [{"role": "user", "content": "Say a."}, {"role": "assistant", "content": "a"}]
LINE = rows(GOOD)
QUESTION, ANSWER = GOOD_CHAT
CALL = {"name": "f", "arguments": "x="}

BAD_FILES = {
    # the file as such
    "empty file": BadFile("d.jsonl", b"", "d.jsonl", "no rows"),
    "empty list": BadFile("d.json", b"[]", "d.json", "no rows"),
    "header only": BadFile("d.csv", b"question,answer\n", "d.csv", "no rows"),
    "unknown ending": BadFile("d.xls", LINE, "d.xls", "rename the file"),
    "UTF-16": BadFile("d.json", json.dumps([GOOD]).encode("utf-16"), "d.json:1", "UTF-16; save it as UTF-8"),
    "Latin-1 in a list": BadFile("d.json", b'[\n{"instruction": "caf\xe9"}]', "d.json:2", "0xe9 at column 21"),
    "Latin-1 in a line": BadFile("d.jsonl", LINE + b'{"instruction": "caf\xe9"}\n', "d.jsonl:2", "not UTF-8"),
    "no gzip": BadFile("d.jsonl.gz", LINE, "d.jsonl.gz", "not an intact gzip file"),
    "gzip cut off": BadFile("d.jsonl.gz", gzip.compress(LINE * 9, mtime=0)[:-9], "d.jsonl.gz", "cut off"),
    "no parquet": BadFile("d.parquet", LINE, "d.parquet", "not readable as parquet"),
    "zeros of a crash": BadFile("d.jsonl", LINE + b"\0" * 64, "d.jsonl:2", "NUL byte"),
    # broken JSON
    "list cut off": BadFile("d.json", b"[\n" + LINE + b",\n" + LINE[:20], "d.json:4", "never closed"),
    "line cut off": BadFile("d.jsonl", LINE + LINE[:20], "d.jsonl:2", "the file may be cut off"),
    "missing comma": BadFile("d.json", b"[\n" + LINE + LINE + b"]", "d.json:3", "a comma or ] must follow"),
    "comma too many": BadFile("d.json", b"[\n" + LINE + b",\n]", "d.json:4", "comma stands before"),
    "single quotes": BadFile("d.jsonl", LINE + b"{'instruction': 'a'}\n", "d.jsonl:2", "double quotes"),
    "two objects on a line": BadFile("d.jsonl", LINE + LINE[:-1] + LINE, "d.jsonl:2", "More text follows"),
    "plain text": BadFile("d.json", b"Once upon a time\n", "d.json:1", "unexpected 'O'"),
    "repeated key": BadFile("d.jsonl", LINE + b'{"output": "b", "output": "c"}', "d.jsonl:2", "repeated key"),
    "NaN": BadFile("d.jsonl", LINE + b'{"instruction": "a", "output": NaN}', "d.jsonl:2", "NaN is not JSON"),
    "half an emoji": BadFile("d.jsonl", LINE + b'{"output": "\\ud83d"}', "d.jsonl:2", "half a character"),
    "depth bomb": BadFile("d.jsonl", LINE + b"[" * 100_000, "d.jsonl:2", "nested too deeply"),
    "rows that are lists": BadFile("d.jsonl", LINE + b'["a", "b"]\n', "d.jsonl:2", "not an object"),
    "rows that are texts": BadFile("d.json", b'[\n"a",\n"b"]', "d.json:2", "not an object"),
    # broken tables
    "quote never closed": BadFile("d.csv", b'question,answer\na,"b\nc,d\n', "d.csv:2", "unexpected end of data"),
    "too many fields": BadFile("d.csv", b"question,answer\na,b\nc,d,e\n", "d.csv:3", "The header has 2, this row 3"),
    "semicolons": BadFile("d.csv", b"question;answer\na;b\n", "d.csv:1", "seem to be by ';'"),
    "two columns of one name": BadFile("d.tsv", b"answer\tanswer\na\tb\n", "d.tsv:1", "two columns called 'answer'"),
    # a format that cannot be told
    "unknown columns": BadFile("d.jsonl", rows({"title": "a", "body": "b"}), "d.jsonl:1", "seen: 'title', 'body'"),
    "two formats": BadFile("d.jsonl", LINE + rows({"messages": GOOD_CHAT}), "d.jsonl:2", "reads as messages"),
    "preference pairs": BadFile("d.jsonl", rows({"prompt": "a", "chosen": "b", "rejected": "c"}), "d.jsonl:1", "DPO"),
    "preference marks": BadFile("d.jsonl", rows({"messages": GOOD_CHAT, "label": False}), "d.jsonl:1", "KTO"),
    "wrong format_type": BadFile("d.jsonl", LINE, "d.jsonl:1", "no column 'conversations'", "sharegpt"),
    # rows that are no conversation
    "missing column": BadFile("d.jsonl", LINE + rows({"instruction": "a"}), "d.jsonl:2", "no column 'output'"),
    "answer null": BadFile("d.jsonl", LINE + rows({**GOOD, "output": None}), "d.jsonl:2", "'output' is null, not text"),
    "answer a number": BadFile("d.jsonl", rows({"question": "a", "answer": 7}), "d.jsonl:1", "'answer' is a number"),
    "answer empty": BadFile("d.jsonl", LINE + rows({**GOOD, "output": " "}), "d.jsonl:2", "empty answer"),
    "question empty": BadFile("d.jsonl", LINE + rows({**GOOD, "instruction": ""}), "d.jsonl:2", "empty prompt"),
    "history no pairs": BadFile("d.jsonl", rows({**GOOD, "history": ["a"]}), "d.jsonl:1", "list of [question, answer]"),
    "no messages": BadFile("d.jsonl", rows({"messages": []}), "d.jsonl:1", "no messages"),
    "no answer": BadFile("d.jsonl", chat(QUESTION), "d.jsonl:1", "no answer"),
    "unknown role": BadFile("d.jsonl", chat({"role": "wizard", "content": "a"}), "d.jsonl:1", "unknown role 'wizard'"),
    "no role": BadFile("d.jsonl", chat({"content": "a"}), "d.jsonl:1", "a message has no role"),
    "content null": BadFile("d.jsonl", chat({**ANSWER, "content": None}), "d.jsonl:1", "content is null, not text"),
    "content an image": BadFile("d.jsonl", chat({**ANSWER, "content": [{"type": "image"}]}), "d.jsonl:1", "'image'"),
    "arguments no JSON": BadFile("d.jsonl", chat({**ANSWER, "tool_calls": [CALL]}), "d.jsonl:1", "'arguments' is text"),
    "tools no JSON": BadFile("d.jsonl", chat(ANSWER, tools="[{"), "d.jsonl:1", "'tools' is text that is not valid"),
    "weight no number": BadFile("d.jsonl", chat(ANSWER, weight="70kg"), "d.jsonl:1", "'weight' is not a number"),
    "text empty": BadFile("d.jsonl", rows({"text": "a"}, {"text": ""}), "d.jsonl:2", "empty text"),
}  # fmt: skip


def place(bad: BadFile, folder: Path) -> Path:
    path = folder / bad.name
    path.write_bytes(bad.content)
    return path


def check_message(message: str, bad: BadFile) -> None:
    assert bad.place in message
    assert bad.words in message
    assert "Traceback" not in message
    assert len(message) < 2000


def test_there_are_at_least_forty_of_them():
    assert len({(bad.name, bad.content) for bad in BAD_FILES.values()}) >= 40


@pytest.mark.parametrize("bad", BAD_FILES.values(), ids=BAD_FILES)
def test_the_reader_refuses_it_with_its_place(bad: BadFile, tmp_path: Path):
    with pytest.raises(DataError) as caught:
        read_conversations(parse_sources(place(bad, tmp_path), format_type=bad.format_type))
    check_message(str(caught.value), bad)


@pytest.mark.parametrize("bad", BAD_FILES.values(), ids=BAD_FILES)
def test_the_command_line_refuses_it_with_exit_code_2(
    bad: BadFile,
    tmp_path: Path,
    tiny_model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    from sft.cli.main import main

    monkeypatch.setenv("SFT_CACHE_DIR", str(tmp_path / "cache"))
    words = ["plan", "--data_path", str(place(bad, tmp_path)), "--model_name_or_path", str(tiny_model_folder)]
    if bad.format_type is not None:
        words += ["--format_type", bad.format_type]
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    check_message(printed.err, bad)


def test_bad_rows_within_the_allowance_are_no_failure(tmp_path: Path):
    bad = BAD_FILES["answer empty"]
    found = read_conversations(parse_sources(place(bad, tmp_path)), max_bad_rows=1)
    assert (len(found.conversations), found.rejected) == (1, {"empty answer": 1})
