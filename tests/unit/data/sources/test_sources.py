from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from sft.data.sources import fingerprint_source, list_parts, parse_sources, read_rows
from sft.data.types import BadRow, Row
from sft.errors import DataError

ROWS = [{"q": f"frage {n} ß", "a": {"nested": [n, None]}} for n in range(5)]
JSON = json.dumps(ROWS, indent=1, ensure_ascii=False).encode()
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def values(path: object, **asked: object) -> list[object]:
    read = list(read_rows(parse_sources([{"path": str(path), **asked}])[0]))
    assert all(isinstance(row, Row) for row in read), read
    return [row.values for row in read if isinstance(row, Row)]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("d.json", JSON),
        ("d.JSON", JSON),
        ("d.jsonl", LINES),
        ("d.ndjson", LINES),
        ("d.json.gz", gzip.compress(JSON, mtime=0)),
        ("d.jsonl.gz", gzip.compress(LINES[:50], mtime=0) + gzip.compress(LINES[50:], mtime=0)),
        ("d.jsonl.zst", zstandard.compress(LINES)),
        ("d.jsonl.zst", zstandard.compress(LINES[:50]) + zstandard.compress(LINES[50:])),
        ("d.json.zst", zstandard.compress(JSON)),
    ],
)
def test_the_ending_says_how_a_file_is_read(tmp_path: Path, name: str, data: bytes):
    (tmp_path / name).write_bytes(data)
    assert values(tmp_path / name) == ROWS


def test_a_large_zst_file_of_several_frames_is_read_whole(tmp_path: Path):
    rows = [{"text": str(number) * 400} for number in range(4000)]
    data = b"".join(zstandard.compress(json.dumps(row).encode() + b"\n") for row in rows)
    (tmp_path / "d.jsonl.zst").write_bytes(data)
    assert values(tmp_path / "d.jsonl.zst") == rows


def test_csv_and_tsv_are_read_under_their_header(tmp_path: Path):
    (tmp_path / "d.csv").write_text("q,a\n1,2\n")
    (tmp_path / "d.tsv.gz").write_bytes(gzip.compress(b"q\ta\n1\t2\n", mtime=0))
    assert values(tmp_path / "d.csv") == values(tmp_path / "d.tsv.gz") == [{"q": "1", "a": "2"}]


def test_parquet_rows_come_back_without_the_keys_that_arrow_invented(tmp_path: Path):
    rows = [
        {"q": "1", "tools": [{"name": "f", "parameters": {"city": "Rome"}}], "note": None},
        {"q": "2", "tools": [{"name": "g", "parameters": {"limit": 3}}], "note": "x"},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    read = list(read_rows(parse_sources(tmp_path / "d.parquet")[0]))
    assert [row.values for row in read if isinstance(row, Row)] == rows
    assert str(read[1].source) == f"{tmp_path / 'd.parquet'} row 2"


@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        ("d.parquet", b"PAR1 and no more", "not readable as parquet"),
        ("d.json.gz", b"no gzip at all", "not an intact gzip file"),
        ("d.jsonl.gz", gzip.compress(LINES * 100, mtime=0)[:-20], "cut off"),
        ("d.jsonl.gz", gzip.compress(LINES * 100, mtime=0)[:60] + b"\xff" * 40, "not an intact gzip file"),
        ("d.jsonl.zst", zstandard.compress(LINES * 100)[:-9], "cut off"),
        ("d.jsonl.zst", b"no zstd at all", "not an intact zstd file"),
        ("d.txt", b"caf\xe9", "UTF-8"),
        ("d.json.bz2", b"", "rename the file"),
        ("d.parquet.gz", b"", "rename the file"),
        ("d", b"", "rename the file"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str, data: bytes, part: str):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=part) as caught:
        values(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_rows_before_the_cut_of_a_compressed_file_are_not_used_in_silence(tmp_path: Path):
    lines = b"".join(json.dumps({"text": os.urandom(600).hex()}).encode() + b"\n" for _ in range(2000))
    (tmp_path / "d.jsonl.zst").write_bytes(zstandard.compress(lines)[:-400_000])
    with pytest.raises(DataError, match="cut off"):
        values(tmp_path / "d.jsonl.zst")


def test_a_text_file_is_one_document_and_beside_other_data_a_note(tmp_path: Path):
    (tmp_path / "b.txt").write_bytes("\ufeffTwo\n\nparagraphs.\n".encode())
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("Grüße\r\n".encode(), mtime=0))
    assert values(tmp_path) == [{"text": "Grüße\r\n"}, {"text": "Two\n\nparagraphs.\n"}]
    (tmp_path / "c.jsonl").write_text('{"text": "row"}\n')
    assert values(tmp_path) == [{"text": "row"}]
    assert list_parts(parse_sources(tmp_path)[0])[1] == ["a.txt.gz", "b.txt"]


def make_folder(folder: Path) -> None:
    for name in ("b.jsonl", "a.json", "sub/c.csv", "README.md", ".hidden.json", ".git/d.json", "dataset_info.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("q\n1\n" if name.endswith("csv") else json.dumps({"q": name}))


def test_a_folder_is_read_whole_in_sorted_order_and_what_is_skipped_is_told(tmp_path: Path):
    make_folder(tmp_path)
    assert values(tmp_path) == [{"q": "a.json"}, {"q": "b.jsonl"}, {"q": "1"}]
    parts, skipped = list_parts(parse_sources(tmp_path)[0])
    assert [part.shown for part in parts] == [str(tmp_path / name) for name in ("a.json", "b.jsonl", "sub/c.csv")]
    assert skipped == [".git", ".hidden.json", "README.md", "dataset_info.json"]


def test_the_limit_counts_rows_over_the_whole_folder(tmp_path: Path):
    make_folder(tmp_path)
    assert values(tmp_path, limit=2) == [{"q": "a.json"}, {"q": "b.jsonl"}]


def test_a_folder_without_data_is_refused(tmp_path: Path):
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(DataError, match=r"holds no data file; it holds notes\.md"):
        values(tmp_path)


def test_a_missing_file_is_told_with_the_nearest_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alpaca_data.json").write_text("[]")
    (tmp_path / "unlike.csv").write_text("")
    with pytest.raises(DataError, match=r"'alpaca_dta\.json': no such file.*folder '\.' exists.*alpaca_data\.json"):
        values("alpaca_dta.json")
    with pytest.raises(DataError, match=r"it holds alpaca_data\.json, unlike\.csv"):
        values("zzz.parquet")
    with pytest.raises(DataError, match=r"there is no folder 'nowhere/deep'; what exists is '\.'"):
        values("nowhere/deep/x.json")
    with pytest.raises(DataError, match="there is no folder"):  # a leading dot is never part of a hub name
        values("./owner/name")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path):
    (tmp_path / "d.json").write_text("[]")
    (tmp_path / "d.json").chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        values(tmp_path / "d.json")


@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [
        ("pyarrow", "d.parquet", "parquet"),
        ("zstandard", "d.json.zst", "zstd"),
        ("datasets", "owner/name", "hub"),
    ],
)
def test_an_optional_package_is_asked_for_by_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str, extra: str
):
    monkeypatch.chdir(tmp_path)
    if "." in name:
        Path(name).write_bytes(b"x")
    for module in ("parquet", "zst", "hub"):
        monkeypatch.delitem(sys.modules, f"sft.data.sources.{module}", raising=False)
    monkeypatch.setitem(
        sys.modules, package, None
    )  # what Python itself puts there for a module that is not to be found
    with pytest.raises(DataError, match=rf"needs the package {package}.*pip install 'sft-kit\[{extra}\]'"):
        values(name)


def test_a_fingerprint_follows_the_bytes_and_what_is_asked_and_nothing_else(tmp_path: Path):
    def fingerprint(path: Path, **asked: object) -> str:
        return fingerprint_source(parse_sources([{"path": str(path), **asked}])[0])

    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "d.json").write_bytes(JSON)
    before = fingerprint(tmp_path / "one" / "d.json")
    assert before == fingerprint(tmp_path / "two" / "d.json") == fingerprint(tmp_path / "one")
    (tmp_path / "two" / "d.json").write_bytes(JSON.replace(b"frage 3", b"frage 4"))
    asked = [{"weight": 2}, {"limit": 3}, {"format_type": "text"}, {"columns": {"text": "q"}}]
    others = [fingerprint(tmp_path / "two"), *(fingerprint(tmp_path / "one", **one) for one in asked)]
    assert len({before, *others}) == 6


def test_bad_rows_come_in_their_place(tmp_path: Path):
    (tmp_path / "d.jsonl").write_text('{"q": 1}\noops\n{"q": 2}\n')
    read = list(read_rows(parse_sources(tmp_path / "d.jsonl")[0]))
    assert [type(row) for row in read] == [Row, BadRow, Row]
