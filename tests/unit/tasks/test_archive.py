"""Archives from elsewhere: what is read, and what is refused."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sft.errors import DataError
from sft.tasks import TaskOptions, open_tasks
from sft.tasks.sources import archive

ROW = json.dumps({"context": "c", "input": "i", "answers": ["a"], "length": 3, "all_classes": None, "_id": "1"})


def make(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("data/qasper.jsonl", ROW + "\n")
        for entry, content in entries:
            written.writestr(entry, content)
    return path


def read(place: Path, name: str = "qasper") -> list[str]:
    (task,) = open_tasks(name, TaskOptions(longbench_dir=str(place)))
    return [example.references[0] for example in task.examples()]


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def test_an_honest_archive_is_read_where_it_lies_or_in_its_folder(tmp_path: Path) -> None:
    honest = make(
        tmp_path / "data.zip",
        (entry("data/", stat.S_IFDIR | 0o755), b""),
        ("data/hotpotqa.jsonl", (ROW.replace('["a"]', '["b"]') + "\n").encode()),
        ("data/trec_e.jsonl", (json.dumps(json.loads(ROW) | {"all_classes": ["a"]}) + "\n").encode()),
        ("short and dull.txt", b"a" * 100_000),
    )
    assert read(honest) == ["a"]
    assert read(tmp_path, "hotpotqa") == ["b"]
    assert read(tmp_path, "longbench_e/trec") == ["a"]
    with pytest.raises(DataError, match=r"'musique'.*it holds hotpotqa, qasper, short and dull\.txt, trec_e"):
        read(honest, "musique")
    (task,) = open_tasks("qasper", TaskOptions(longbench_dir=str(honest)))
    assert str(task.examples()[0].source) == f"{honest}:data/qasper.jsonl:1"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (("../evil.jsonl", b"x"), r"points out of the archive with '\.\.'"),
        (("data/../../evil.jsonl", b"x"), "points out of the archive"),
        (("data\\..\\..\\evil.jsonl", b"x"), "points out of the archive"),
        (("/etc/evil.jsonl", b"x"), "has an absolute name"),
        (("C:\\evil.jsonl", b"x"), "has an absolute name"),
        ((entry("link.jsonl", stat.S_IFLNK | 0o777), b"/etc/passwd"), "is a link"),
        ((entry("pipe", stat.S_IFIFO | 0o777), b""), "is no ordinary file"),
        (("data/zeros.jsonl", bytes(8 << 20)), r"unpacks to 1,0\d\d times its size, more than 200"),
    ],
)
def test_what_no_honest_archive_holds_is_refused_even_if_it_would_not_be_read(
    tmp_path: Path, written: tuple[str | zipfile.ZipInfo, bytes], reason: str
) -> None:
    bad = make(tmp_path / "data.zip", written)
    with pytest.raises(DataError, match=f"the archive is refused: its entry .* {reason}"):
        read(bad)


def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        bad = make(tmp_path / "data.zip", ("data/qasper.jsonl", b"other"))
    with pytest.raises(DataError, match=r"'data/qasper\.jsonl' is there twice"):
        read(bad)


@pytest.mark.parametrize(
    ("bound", "value", "reason"),
    [
        ("MAX_ENTRIES", 1, "it holds 2 entries, more than 1"),
        ("MAX_ENTRY_BYTES", 300, "unpacks to 400 bytes, more than 300"),
        ("MAX_TOTAL_BYTES", 450, r"it unpacks to \d+ bytes, more than 450"),
    ],
)
def test_sizes_are_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, reason: str) -> None:
    bad = make(tmp_path / "data.zip", ("b", b"b" * 400))
    monkeypatch.setattr(archive, bound, value)
    with pytest.raises(DataError, match=reason):
        read(bad)


def flip_byte(data: bytearray) -> None:
    data[data.index(b"data/qasper.jsonl") + 30] ^= 0xFF


def lie_about_size(data: bytearray) -> None:
    """Say in the directory that the entry is small; the packed stream holds more."""
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")


def encrypt(data: bytearray) -> None:
    data[data.index(b"PK\x01\x02") + 8] |= 1


def cut_off(data: bytearray) -> None:
    del data[-30:]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (flip_byte, "not an intact zip file"),
        (lie_about_size, "not an intact zip file"),
        (encrypt, "is encrypted"),
        (cut_off, "not an intact zip file"),
    ],
)
def test_damage_is_one_message(tmp_path: Path, damage: Callable[[bytearray], None], expected: str) -> None:
    path = make(tmp_path / "data.zip")
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    with pytest.raises(DataError, match=expected):
        read(path)


def test_uncommon_packing_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as written:
        written.writestr("data/qasper.jsonl", ROW)
    (tmp_path / "data.zip").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="packed in an uncommon way"):
        read(tmp_path / "data.zip")
