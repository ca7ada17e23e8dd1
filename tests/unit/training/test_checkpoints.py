"""The newest complete checkpoint counts; a run that changed is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft.errors import ConfigError
from sft.training.checkpoints import clear_run, find_checkpoint, list_checkpoints, refuse_changed_run


def checkpoint(folder: Path, step: int, *, complete: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    if complete:
        (path / "trainer_state.json").write_text("{}")
    return path


def test_auto_takes_the_newest_complete_one_by_step_not_by_name(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9)
    newest = checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 11, complete=False)
    (tmp_path / "checkpoint-best").mkdir()
    assert find_checkpoint("auto", tmp_path) == newest
    assert find_checkpoint("none", tmp_path) is None
    assert find_checkpoint("auto", tmp_path / "absent") is None


def test_a_named_folder_that_is_no_checkpoint_is_refused_with_those_that_are(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    with pytest.raises(ConfigError, match=r"no trainer_state.json.*Checkpoints in .*: checkpoint-5"):
        find_checkpoint(str(tmp_path / "checkpoint-6"), tmp_path)


def record(**changes: Any) -> dict[str, Any]:
    return {
        "fingerprints": {"data": "a", "chat template": "b", "sft code": "c", **changes.get("fingerprints", {})},
        "plan": {"rows_per_step": 16, "packs": None, **changes.get("plan", {})},
    }


def test_the_same_run_goes_on_even_when_the_code_was_updated(tmp_path: Path) -> None:
    refuse_changed_run(record(), record(), tmp_path)
    refuse_changed_run(record(), record(fingerprints={"sft code": "newer"}), tmp_path)
    refuse_changed_run(None, record(), tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"fingerprints": {"data": "other"}}, "data"),
        ({"fingerprints": {"chat template": "other"}}, "chat template"),
        ({"plan": {"rows_per_step": 32}}, r"rows_per_step \(was 16, is 32\)"),
        ({"plan": {"packs": 7}}, r"packs \(was None, is 7\)"),
    ],
)
def test_a_changed_run_is_refused_by_name(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"these changed: {named}"):
        refuse_changed_run(record(), record(**change), tmp_path / "checkpoint-3")


def test_starting_anew_removes_what_the_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    clear_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert list_checkpoints(tmp_path) == []
