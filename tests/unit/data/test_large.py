"""Large data: cut into pieces, read by several processes, killed and gone on with, it is what it is in one go."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data import census, filling, lanes, pieces, quick, readings
from sft.data.choice import choose_some, hold_out, weighed
from sft.data.conversations import MoreRows
from sft.data.growing import GrowingStore
from sft.data.prepare import PreparedData, prepare
from sft.data.quick import render_in_full
from sft.data.sources import list_parts, parse_sources, read_part
from sft.data.sources.segments import cut_part, read_segment
from sft.data.types import BadRow, Row
from sft.errors import DataError

SMALL = 2000
"""Bytes of a segment here."""


def rows(count: int) -> list[Any]:
    """Rows of many kinds: usual ones, unusual ones, long ones, equal ones, and some that cannot be used."""
    made: list[Any] = []
    for number in range(count):
        row: dict[str, Any] = {
            "instruction": f"Count to {number}.",
            "output": f"{number}! " + "one two " * (number % 9),
        }
        row["output"] = row["output"].strip()
        if number % 7 == 3:
            row["output"] = f"  white space and <|im_end|> {number}\n"
        if number % 31 == 5:
            row["output"] = "far too long " * 60
        if number % 11 == 10:
            row = made[number // 2] if isinstance(made[number // 2], dict) else row
        if number % 17 == 6:
            row = {"instruction": "", "output": "no question"} if number % 2 else ["no object"]
        made.append(row)
    return made


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_tokenizer_folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(200)), encoding="utf-8")
    return path


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few rows, segments of a few lines, and nothing kept while rows are chosen."""
    monkeypatch.setattr(pieces, "PIECE_ROWS", 13)
    monkeypatch.setattr(quick, "BATCH", 5)
    monkeypatch.setattr(census, "KEPT_CHARACTERS", 1000)
    monkeypatch.setattr(readings, "cut_part", lambda part: cut_part(part, SMALL))


def options(data: Path, cache: Path, **more: Any) -> dict[str, Any]:
    settings = {"data_path": str(data), "cache_dir": str(cache), "max_bad_rows": 50, "max_length": 200}
    return {**settings, **more}


def content(prepared: PreparedData) -> dict[str, bytes]:
    """Every file that was made, by name."""
    folder = prepared.cache.folder
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    found.pop("meta.json")
    return found


KINDS = {
    "as they stand": {},
    "several parts": {"data_path": ["{data}", {"path": "{data}", "limit": 20}, "{data}"]},
    "weights": {"data_path": [{"path": "{data}", "weight": 2.5}, {"path": "{data}", "sample": 30}]},
    "held out": {"validation_size": 0.1},
    "held out of repeats": {"validation_size": 9, "data_path": [{"path": "{data}", "weight": 2}]},
    "some": {"max_train_samples": 50, "validation_size": 5},
    "no equals": {"deduplicate": True},
    "no equals of repeats": {"deduplicate": True, "data_path": [{"path": "{data}", "weight": 1.5}]},
    "another file": {"eval_data_path": "{data}"},
    "cut": {"overlong": "cut_start", "append_eos": True},
}


def filled(value: Any, data: Path) -> Any:
    """With the path of the data in place."""
    return json.loads(json.dumps(value).replace("{data}", str(data)))


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_what_it_is_in_one_go(
    kind: str, data: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    asked = filled(KINDS[kind], data)
    whole = prepare(SFTConfig(**options(data, tmp_path / "whole", **asked)), tokenizer, quiet=True)
    request.getfixturevalue("in_pieces")
    cut = prepare(SFTConfig(**options(data, tmp_path / "cut", **asked)), tokenizer, quiet=True)
    assert content(cut) == content(whole)


@pytest.mark.parametrize("isolate", [True, False])
def test_blocks_do_not_end_with_pieces(
    isolate: bool, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = tmp_path / "texts.jsonl"
    texts = [
        {"text": f"text {number} " * (number % 8 + 1)} | ({"weight": 2} if number == 70 else {}) for number in range(90)
    ]
    data.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    asked = {"stage": "pretrain", "isolate_documents": isolate, "max_length": 64}
    whole = prepare(SFTConfig(**options(data, tmp_path / "whole", **asked)), tokenizer, quiet=True)
    request.getfixturevalue("in_pieces")
    cut = prepare(SFTConfig(**options(data, tmp_path / "cut", **asked)), tokenizer, quiet=True)
    assert content(cut) == content(whole)
    assert cut.train.report.documents == 90
    assert set(content(cut)) >= {"train/ids.npy", "train/report.json"}
    assert not [name for name in content(cut) if "documents" in name or "journal" in name]


def test_rows_of_tasks_come_last_and_what_is_asked_is_left_out(
    data: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    added = readings.open_readings(SFTConfig(**options(data, tmp_path)))["train"]
    some = [conversation for conversation, _ in zip(added.conversations(), range(3), strict=False)]

    def read() -> Any:
        from sft.data.conversations import ConversationSet

        return ConversationSet(conversations=list(some), num_rows=3, formats={"task": "rows of the task"})

    def overlap(conversation: Any) -> str | None:
        return "asked" if conversation.messages[0].content.startswith("Count to 1") else None

    def done(cache: str) -> PreparedData:
        more = MoreRows(fingerprint="f", read=read, overlap=overlap)
        return prepare(SFTConfig(**options(data, tmp_path / cache)), tokenizer, more=more, quiet=True)

    whole = done("whole")
    request.getfixturevalue("in_pieces")
    assert content(done("cut")) == content(whole)
    assert whole.train.report.overlapping["asked"] > 50
    lines = [whole.train.examples.source(index).line for index in range(-3, 0)]
    assert len(lines) == 3
    assert [example.source.line for example in list(whole.train.examples)[-3:]] == [one.source.line for one in some]


def test_pairs(tokenizer: PreTrainedTokenizerBase, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data = tmp_path / "pairs.jsonl"
    pairs = [{"prompt": f"{n}?", "chosen": f"yes {n}", "rejected": f"no {n % 3}"} for n in range(60)]
    data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    whole = prepare(SFTConfig(**options(data, tmp_path / "whole", stage="dpo")), tokenizer, quiet=True)
    request.getfixturevalue("in_pieces")
    cut = prepare(SFTConfig(**options(data, tmp_path / "cut", stage="dpo")), tokenizer, quiet=True)
    assert content(cut) == content(whole)
    assert cut.train.report.pairs == 60


def test_shapes_that_cannot_be_trusted_are_given_up_for_all_pieces(
    data: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, in_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a template that looks into contents in a way that its source does not tell."""
    by_shape = prepare(SFTConfig(**options(data, tmp_path / "shape")), tokenizer, quiet=True)
    calls = Counter[str]()

    def same_at_first(some: Any, others: Any) -> bool:
        calls["checked"] += 1
        return calls["checked"] < 12

    monkeypatch.setattr(quick, "_same", same_at_first)
    in_full = prepare(SFTConfig(**options(data, tmp_path / "full")), tokenizer, quiet=True)
    assert calls["checked"] == 12
    assert content(in_full) == content(by_shape)


def test_no_more_rows_are_in_memory_than_a_piece_has(
    data: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, in_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"read": 0, "kept": 0, "most": 0}
    append, read = GrowingStore.append, lanes.read_segment_of

    def reading(*args: Any) -> Iterator[Any]:
        for item in read(*args):
            counts["read"] += 1
            counts["most"] = max(counts["most"], counts["read"] - counts["kept"])
            yield item

    def appending(store: GrowingStore, arrays: Any, paths: Any, entry: Any) -> None:
        append(store, arrays, paths, entry)
        counts["kept"] += entry["read"]["rows"]

    monkeypatch.setattr(lanes, "read_segment_of", reading)
    monkeypatch.setattr(GrowingStore, "append", appending)
    prepare(SFTConfig(**options(data, tmp_path)), tokenizer, quiet=True)
    assert counts == {"read": 200, "kept": 200, "most": pieces.PIECE_ROWS}


def test_several_processes_give_the_same(
    data: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, in_pieces: None
) -> None:
    alone = prepare(SFTConfig(**options(data, tmp_path / "alone", preparation_workers=1)), tokenizer, quiet=True)
    together = prepare(SFTConfig(**options(data, tmp_path / "both", preparation_workers=2)), tokenizer, quiet=True)
    assert content(together) == content(alone)


def test_too_many_bad_rows_are_all_counted_and_named_as_in_one_go(
    data: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    said = []
    for cache in ("whole", "cut"):
        with pytest.raises(DataError) as error:
            prepare(SFTConfig(**options(data, tmp_path / cache, max_bad_rows=3)), tokenizer, quiet=True)
        said.append(str(error.value).replace(str(tmp_path / cache), ""))
        assert not list((tmp_path / cache).glob("*.partial"))
        if cache == "whole":
            request.getfixturevalue("in_pieces")
    assert said[0] == said[1]
    assert said[0].startswith("12 of 200 rows cannot be used")


KILLED = """
import glob, json, os, signal, sys
from sft.config import SFTConfig
from sft.data import growing, pieces, readings
from sft.data.prepare import prepare
from sft.data.sources.segments import cut_part
from transformers import AutoTokenizer

pieces.PIECE_ROWS = 13
readings.cut_part = lambda part: cut_part(part, 2000)
settings, tokenizer = json.loads(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[2])
enter = growing.GrowingStore._enter

def killed_at(count, moment):
    def entering(store, entry, new_paths):
        if len(store.entries) == count:
            if moment == "after the entry":
                enter(store, entry, new_paths)
            if moment == "amid the entry":
                with open(store.folder / growing.JOURNAL, "a") as journal:
                    journal.write('{"lane": 3, "la')
            os.kill(os.getpid(), signal.SIGKILL)
        enter(store, entry, new_paths)
    return entering

for count, moment in [(0, "before the entry"), (2, "before the entry"), (5, "amid the entry"), (9, "after the entry")]:
    child = os.fork()
    if not child:
        growing.GrowingStore._enter = killed_at(count, moment)
        prepare(SFTConfig(**settings), tokenizer, quiet=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    journals = glob.glob(settings["cache_dir"] + "/*.partial/train/journal.jsonl")
    print(sum(line.endswith("\\n") for journal in journals for line in open(journal)))
growing.GrowingStore._enter = lambda store, *rest: (print("piece"), enter(store, *rest))
print(prepare(SFTConfig(**settings), tokenizer, quiet=True).cache.why)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked to be killed")
def test_a_killed_preparation_goes_on_where_it_stood(
    data: Path,
    tokenizer: PreTrainedTokenizerBase,
    tiny_tokenizer_folder: Path,
    tmp_path: Path,
    in_pieces: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed four times, at different moments of writing; each piece is prepared once more at most."""
    settings = options(data, tmp_path / "killed", validation_size=0)
    command = [sys.executable, "-c", KILLED, json.dumps(settings), str(tiny_tokenizer_folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    append = GrowingStore.append
    all_pieces = []
    monkeypatch.setattr(GrowingStore, "append", lambda *piece: (all_pieces.append(1), append(*piece))[1])
    whole = prepare(SFTConfig(**{**settings, "cache_dir": str(tmp_path / "whole")}), tokenizer, quiet=True)
    again = prepare(SFTConfig(**settings), tokenizer, quiet=True)
    assert again.cache.hit
    assert content(again) == content(whole)
    lines = done.stdout.splitlines()
    assert lines[:4] == ["0", "2", "5", "10"], "pieces in the journal after each kill"
    assert lines[4:-1] == ["piece"] * (len(all_pieces) - 10)
    assert "went on where it stood" in lines[-1]
    assert whole.train.report.rows == 200


def test_an_interrupt_leaves_what_was_prepared(
    data: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, in_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = GrowingStore.append

    def interrupted(store: GrowingStore, *piece: Any) -> None:
        if len(store.entries) == 4:
            raise KeyboardInterrupt
        append(store, *piece)

    monkeypatch.setattr(GrowingStore, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(SFTConfig(**options(data, tmp_path)), tokenizer, quiet=True)
    monkeypatch.setattr(GrowingStore, "append", append)
    began = []
    monkeypatch.setattr(filling.GrowingStore, "__init__", remember(began, GrowingStore.__init__))
    prepared = prepare(SFTConfig(**options(data, tmp_path)), tokenizer, quiet=True)
    assert began == [4]
    assert prepared.train.report.rows == 200


def remember(began: list[int], init: Any) -> Any:
    """Note how many pieces a store had when it was opened."""

    def opened(store: GrowingStore, folder: Path) -> None:
        init(store, folder)
        began.append(len(store.entries))

    return opened


some_line = st.sampled_from(['{"text": "a"}', '{"text": "' + "long " * 9 + '"}', "", "  ", "{broken", "[1]"])


@given(st.lists(some_line, max_size=40), st.integers(8, 120), st.booleans())
def test_segments_are_the_file(tmp_path_factory: Any, lines: list[str], size: int, is_ended: bool) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.jsonl"
    path.write_text("\n".join(['{"text": "first"}', *lines]) + "\n" * is_ended, encoding="utf-8")
    part = list_parts(parse_sources(str(path))[0])[0][0]
    segments = cut_part(part, size)
    found: list[Row | BadRow] = [row for segment in segments for row in read_segment(segment)]
    assert found == list(read_part(part)) or not segments
    assert [segment.start for segment in segments[1:]] == [segment.stop for segment in segments[:-1]]
    assert bool(segments) == (path.stat().st_size > size)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"text": "a"}\n{"text": "b"}\n'),
        ("a.jsonl", '[\n{"text": "a"},\n{"text": "b"}\n]\n'),
        ("a.jsonl", '\ufeff{"text": "a"}\n{"text": "b"}\n'),
        ("a.csv", "text\na\nb\n"),
    ],
    ids=["ending", "document", "mark", "table"],
)
def test_what_cannot_be_cut_is_read_as_a_whole(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    part = list_parts(parse_sources(str(tmp_path / name))[0])[0][0]
    assert cut_part(part, 4) == []
    assert [row.values["text"] for row in read_part(part) if isinstance(row, Row)] == ["a", "b"]


@given(st.integers(1, 60), st.floats(0.1, 3.5), st.integers(0, 5), st.integers(1, 20))
def test_choices_are_those_of_plain_lists(count: int, weight: float, seed: int, size: int) -> None:
    """The same said with lists of rows, as it was before rows had numbers."""
    rows = [object() for _ in range(count)]
    whole = int(weight)
    share = random.Random(f"{seed}:0").sample(range(count), int((weight - whole) * count + 0.5))
    repeated = rows * whole + [rows[place] for place in sorted(share)]
    chosen = weighed(count, weight, None, f"{seed}:0")
    assert [rows[number] for number in chosen] == repeated
    some = [
        repeated[place] for place in sorted(random.Random(seed).sample(range(len(repeated)), min(size, len(repeated))))
    ]
    assert [rows[number] for number in choose_some(chosen, size, seed)] == some
    seen = list(dict.fromkeys(repeated))
    if size >= len(seen):
        with pytest.raises(DataError):
            hold_out(chosen, size, seed)
        return
    out = random.Random(seed).sample(seen, size)
    left, held = hold_out(chosen, size, seed)
    assert [rows[number] for number in held] == [row for row in seen if row in out]
    assert [rows[number] for number in left] == [
        row for one in seen if one not in out for row in repeated if row is one
    ]


def test_a_store_that_grows_is_one_that_numpy_reads(
    tmp_path: Path, data: Path, tokenizer: Any, in_pieces: None
) -> None:
    prepared = prepare(SFTConfig(**options(data, tmp_path)), tokenizer, quiet=True)
    reading = readings.open_readings(SFTConfig(**options(data, tmp_path)))["train"]
    maker = pieces.PieceMaker(SFTConfig(**options(data, tmp_path)), tokenizer)
    expected = [
        example
        for made in render_in_full(maker.renderer, reading.conversations())
        if isinstance(made.examples, list)
        for example in made.examples
        if len(example) <= 200
    ]
    folder = prepared.cache.folder / "train"
    ids, mask = np.load(folder / "ids.npy"), np.load(folder / "mask.npy")
    assert ids.tolist() == np.concatenate([example.input_ids for example in expected]).tolist()
    assert mask.tolist() == np.concatenate([example.loss_mask for example in expected]).tolist()
    assert np.load(folder / "offsets.npy").tolist() == np.cumsum([0, *map(len, expected)]).tolist()
    assert [example.source.line for example in prepared.train.examples] == [one.source.line for one in expected]
