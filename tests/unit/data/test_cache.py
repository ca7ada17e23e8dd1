"""Prepared data is found again by content, and a miss says what changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sft.data.cache import cached, hash_files
from sft.errors import DataError

PARTS = {"data": "a", "template": "b", "code": "c"}


def fill(folder: Path) -> None:
    (folder / "value.txt").write_text("built")


def test_the_second_call_hits_and_does_not_build(tmp_path: Path) -> None:
    first = cached(PARTS, fill, cache_dir=str(tmp_path), overwrite=False)
    second = cached(PARTS, pytest.fail, cache_dir=str(tmp_path), overwrite=False)
    assert (first.hit, second.hit) == (False, True)
    assert first.folder == second.folder
    assert (second.folder / "value.txt").read_text() == "built"


def test_a_miss_names_the_part_that_changed(tmp_path: Path) -> None:
    assert "nothing like it" in cached(PARTS, fill, cache_dir=str(tmp_path), overwrite=False).why
    changed = cached({**PARTS, "template": "other"}, fill, cache_dir=str(tmp_path), overwrite=False)
    assert (changed.hit, changed.why) == (False, "changed since the nearest earlier preparation: template")


def test_data_that_cannot_be_used_leaves_nothing(tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise DataError("no rows")

    with pytest.raises(DataError, match="no rows"):
        cached(PARTS, refuse, cache_dir=str(tmp_path), overwrite=False)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    assert cached(PARTS, fill, cache_dir=str(tmp_path), overwrite=False).hit is False


@pytest.mark.parametrize("trouble", [RuntimeError, OSError, KeyboardInterrupt])
def test_what_a_failed_build_leaves_is_gone_on_with(tmp_path: Path, trouble: type[BaseException]) -> None:
    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise trouble("disk full")

    with pytest.raises(trouble, match="disk full"):
        cached(PARTS, fail, cache_dir=str(tmp_path), overwrite=False)
    entry = cached(PARTS, fill, cache_dir=str(tmp_path), overwrite=False)
    assert (entry.hit, "went on where it stood" in entry.why) == (False, True)
    assert sorted(path.name for path in entry.folder.iterdir()) == ["half.txt", "meta.json", "value.txt"]


def test_what_nobody_went_on_with_is_taken_away_after_a_week(tmp_path: Path) -> None:
    old, new = tmp_path / "old.partial", tmp_path / "new.partial"
    for folder in (old, new):
        (folder / "train").mkdir(parents=True)
        (folder / "train" / "journal.jsonl").touch()
    for path in (old, old / "train", old / "train" / "journal.jsonl", new):
        os.utime(path, (0, 0))
    cached(PARTS, fill, cache_dir=str(tmp_path), overwrite=False)
    assert (old.exists(), new.exists()) == (False, True)


def test_overwrite_builds_anew(tmp_path: Path) -> None:
    first = cached(PARTS, fill, cache_dir=str(tmp_path), overwrite=False)
    (first.folder / "value.txt").write_text("stale")
    again = cached(PARTS, fill, cache_dir=str(tmp_path), overwrite=True)
    assert (again.folder / "value.txt").read_text() == "built"
    assert again.why == "overwrite_cache is set"


def test_one_changed_byte_changes_the_hash_of_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"ab")
    two.write_bytes(b"c")
    before = hash_files([one, two])
    one.write_bytes(b"a")
    two.write_bytes(b"bc")
    assert hash_files([one, two]) != before
