"""Hub data sets are read from a cache that is made here, in processes that may not use the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MAKE_CACHE = """
import json, os, shutil, sys
from glob import glob
import datasets

home = sys.argv[1]
rows = [{"question": "a", "answer": "b", "meta": {"x": 1}}, {"question": "c", "answer": "d", "meta": {"y": "z"}}]
with open(f"{home}/rows.json", "w") as file:
    json.dump(rows, file)
made = datasets.load_dataset("json", data_files=f"{home}/rows.json", split="train")
built = next(path for path in glob(f"{home}/datasets/json/*/*/*") if os.path.isdir(path))
cached = f"{home}/datasets/owner___small/main/0.0.0/" + "0" * 40
shutil.copytree(built, cached)
os.rename(f"{cached}/json-train.arrow", f"{cached}/small-train.arrow")
with open(f"{cached}/dataset_info.json") as file:
    info = json.load(file)
info |= {"builder_name": "parquet", "dataset_name": "small", "config_name": "main"}
with open(f"{cached}/dataset_info.json", "w") as file:
    json.dump(info, file)
made.save_to_disk(f"{home}/saved")
datasets.DatasetDict({"train": made, "dev": made.select([1])}).save_to_disk(f"{home}/saved_splits")
"""

READ = """
import json, sys
from sft.data.sources import fingerprint_source, parse_sources, read_rows
from sft.errors import DataError

found = []
for entry in json.loads(sys.argv[1]):
    (spec,) = parse_sources([entry])
    try:
        rows = [[row.values, str(row.source)] for row in read_rows(spec)]
        found.append({"rows": rows, "fingerprint": fingerprint_source(spec)})
    except DataError as error:
        found.append({"error": str(error)})
print(json.dumps(found))
"""


def run(code: str, argument: str, home: Path) -> str:
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_data_sets_of_the_cache_and_of_the_disk_are_read_without_a_network(tmp_path: Path):
    pytest.importorskip("datasets")
    run(MAKE_CACHE, str(tmp_path), tmp_path)
    entries = [
        {"path": "owner/small:main"},
        {"path": "owner/small", "subset": "main", "limit": 1},
        {"path": str(tmp_path / "saved")},
        {"path": str(tmp_path / "saved_splits"), "split": "dev"},
        {"path": str(tmp_path / "saved_splits"), "split": "test"},
        {"path": "owner/small:main", "split": "tset"},
        {"path": "owner/absent", "revision": "v2"},
    ]
    hub, limited, saved, split, no_split, wrong_split, absent = json.loads(run(READ, json.dumps(entries), tmp_path))
    # Arrow stores both metas with both keys; a key that an object never had does not come back as null.
    rows = [{"question": "a", "answer": "b", "meta": {"x": 1}}, {"question": "c", "answer": "d", "meta": {"y": "z"}}]
    assert hub["rows"] == [[rows[0], "owner/small:main[train] row 1"], [rows[1], "owner/small:main[train] row 2"]]
    assert [values for values, _ in limited["rows"]] == rows[:1]
    assert [values for values, _ in saved["rows"]] == rows
    assert [values for values, _ in split["rows"]] == rows[1:]
    assert len({one["fingerprint"] for one in (hub, limited, saved, split)}) == 4
    assert "no split 'test'; it holds train, dev" in no_split["error"]
    assert 'Unknown split "tset"' in wrong_split["error"]
    assert "no such file or folder" in absent["error"]
    assert "owner/absent[train] at revision 'v2' it could not be had" in absent["error"]
    assert "\n" not in absent["error"]


def test_files_of_a_hub_data_set_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch):
    import datasets

    from sft.data.sources import parse_sources, read_rows

    asked: list[object] = []

    def load_dataset(*args: object, **kwargs: object) -> datasets.Dataset:
        asked.append((args, kwargs))
        return datasets.Dataset.from_list([{"text": "a"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (spec,) = parse_sources([{"path": "owner/set", "split": "train[:1%]", "data_files": ["a/b.jsonl"]}])
    assert [row.values for row in read_rows(spec)] == [{"text": "a"}]
    files = {"train": ["a/b.jsonl"]}
    assert asked == [(("owner/set", None), {"data_files": files, "split": "train[:1%]", "revision": None})]
