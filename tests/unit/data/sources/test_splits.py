from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft.data.sources import SourceSpec, list_parts, parse_sources, read_rows
from sft.data.sources.splits import split_of
from sft.errors import DataError


def make(folder: Path, *names: str) -> str:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([{"from": name}]))
    return str(folder)


def files(path: str, **wanted: str) -> list[str]:
    return [row.values["from"] for row in read_rows(SourceSpec(path=path, **wanted))]


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-00000-of-00001.parquet", "train"),
        ("my_dev_set.json", "validation"),
        ("test/part1.json", "test"),
        ("train/eval.json", "test"),
        ("training.jsonl", "train"),
        ("trains.json", None),
        ("latest.json", None),
        ("constraint.json", None),
    ],
)
def test_names_say_the_split_in_whole_words(path: str, split: str | None) -> None:
    assert split_of(path) == split


def test_names_are_judged_as_datasets_judges_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    names = ["train-1.json", "dev.json", "sub/test_set.json", "sub/valid-2.json", "training2.json"]
    folder = make(tmp_path, *names)
    found = datasets.load_dataset(folder, cache_dir=str(tmp_path.parent / f"{tmp_path.name}-cache"))
    for split in ("train", "validation", "test"):
        assert sorted(found[split]["from"]) == sorted(files(folder, split=split))


def test_training_never_reads_files_that_are_called_test(tmp_path: Path) -> None:
    folder = make(tmp_path, "train.json", "test.json", "notes.json")
    assert files(folder) == ["train.json"]
    parts, skipped = list_parts(SourceSpec(path=folder))
    assert [Path(part.shown).name for part in parts] == ["train.json"]
    assert skipped == ["notes.json", "test.json"], "what is left out is told"


def test_files_that_name_no_split_are_training_data(tmp_path: Path) -> None:
    assert files(make(tmp_path, "a.json", "b.json", "test.json")) == ["a.json", "b.json"]


def test_a_folder_of_one_other_split_is_read_where_nobody_asked(tmp_path: Path) -> None:
    assert files(make(tmp_path, "test-1.json", "test-2.json")) == ["test-1.json", "test-2.json"]


def test_a_split_of_another_name(tmp_path: Path) -> None:
    folder = make(tmp_path, "extra_hard.json", "train.json")
    assert files(folder, split="extra_hard") == ["extra_hard.json"]


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file belongs to the split 'test'; there are a\.json"):
        files(make(tmp_path, "a.json"), split="test")


def test_a_subset_is_a_folder_within(tmp_path: Path) -> None:
    folder = make(tmp_path, "main/train.json", "main/test.json", "socratic/train.json")
    (spec,) = parse_sources(f"{folder}:main")
    assert [row.values["from"] for row in read_rows(spec)] == ["main/train.json"]
    with pytest.raises(DataError, match="no subset 'mian' in it; it holds main, socratic"):
        files(folder, subset="mian")


def test_a_file_has_neither_subsets_nor_slices(tmp_path: Path) -> None:
    path = f"{make(tmp_path, 'a.json')}/a.json"
    with pytest.raises(DataError, match="a file has no subsets"):
        files(path, subset="main")
    with pytest.raises(DataError, match="limit"):
        files(path, split="train[:10]")
    with pytest.raises(DataError, match="limit"):
        files(str(tmp_path), split="train[:10]")
