"""The newest valid checkpoint counts; damage is named file by file; a run that changed is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sft.errors import ConfigError
from sft.training.checkpoints import clear_run, find_checkpoint, list_checkpoints, remove_leftovers
from sft.training.checkpoints.changes import refuse_changed_run
from sft.training.checkpoints.manifest import MANIFEST, damage
from sft.training.checkpoints.rotate import rotate
from sft.training.checkpoints.write import Draft, complete


def checkpoint(folder: Path, step: int) -> Path:
    draft = Draft(folder, step)
    draft.begin()
    (draft.folder / "model.safetensors").write_bytes(bytes(range(256)) * 8)
    (draft.folder / "part").mkdir()
    (draft.folder / "part" / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    complete(draft)
    return draft.place


def test_auto_takes_the_newest_valid_one_by_step_not_by_name_or_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 9)
    (tmp_path / "checkpoint-11").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    assert find_checkpoint("auto", tmp_path) == newest
    assert "checkpoint-11 is not used: it has no manifest.json" in capsys.readouterr().err
    assert find_checkpoint("none", tmp_path) is None
    assert find_checkpoint("auto", tmp_path / "absent") is None


def test_a_named_folder_that_is_no_checkpoint_is_refused_with_those_that_are(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    with pytest.raises(ConfigError, match=r"no such folder.*Checkpoints in .*: checkpoint-5"):
        find_checkpoint(str(tmp_path / "checkpoint-6"), tmp_path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut": cut,
    "flip": flip,
    "empty": lambda path: path.write_bytes(b""),
    "delete": Path.unlink,
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["model.safetensors", "part/trainer_state.json", MANIFEST])
def test_every_damage_is_named_by_its_file_and_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, how: str
) -> None:
    older, newer = checkpoint(tmp_path, 4), checkpoint(tmp_path, 8)
    DAMAGE[how](newer / name)
    assert find_checkpoint("auto", tmp_path) == older
    said = capsys.readouterr().err
    assert "checkpoint-8 is not used" in said
    assert name in said
    with pytest.raises(ConfigError, match=name):
        find_checkpoint(str(newer), tmp_path)


def test_a_checkpoint_under_another_steps_name_is_none(tmp_path: Path) -> None:
    checkpoint(tmp_path, 4).rename(tmp_path / "checkpoint-40")
    assert damage(tmp_path / "checkpoint-40") == [
        "manifest.json is of step 4: the folder was renamed or filled by hand"
    ]


@pytest.mark.parametrize(
    ("limit", "best", "stay"),
    [(None, None, [2, 4, 6, 8]), (2, None, [6, 8]), (1, None, [8]), (2, 2, [2, 8]), (1, 2, [2, 8]), (3, 4, [4, 6, 8])],
)
def test_the_lowest_steps_go_first_and_never_the_newest_or_the_best(
    tmp_path: Path, limit: int | None, best: int | None, stay: list[int]
) -> None:
    for step in (8, 2, 6, 4):
        checkpoint(tmp_path, step)
    rotate(tmp_path, newest=8, best=best, limit=limit)
    assert [int(path.name[11:]) for path in list_checkpoints(tmp_path)] == stay


def test_what_a_killed_run_left_goes_and_a_checkpoint_that_made_place_for_none_comes_back(tmp_path: Path) -> None:
    kept = checkpoint(tmp_path, 4)
    kept.rename(tmp_path / ".replaced-checkpoint-4")
    (tmp_path / ".saving-6").mkdir()
    checkpoint(tmp_path, 2).rename(tmp_path / ".removed-checkpoint-2")
    (tmp_path / "mine").mkdir()
    assert remove_leftovers(tmp_path) == [".removed-checkpoint-2", ".saving-6"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4", "mine"]
    assert damage(kept) == []


def test_a_foreign_folder_in_the_place_of_a_checkpoint_is_kept(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4" / "notes.txt").write_text("mine")
    assert damage(checkpoint(tmp_path, 4)) == []
    assert (tmp_path / "set-aside-checkpoint-4" / "notes.txt").read_text() == "mine"


FINGERPRINTS = {"data": "a", "chat_template": "b", "code": "c", "rows_per_step": 16, "packs": None}


def test_the_same_run_goes_on(tmp_path: Path) -> None:
    assert refuse_changed_run(FINGERPRINTS, dict(FINGERPRINTS), tmp_path) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": "a" * 32}, "data"),
        ({"chat_template": "other"}, r"chat_template \(was b, is other\)"),
        ({"code": "newer"}, r"code \(was c, is newer\)"),
        ({"rows_per_step": 32}, r"rows_per_step \(was 16, is 32\)"),
        ({"packs": 7}, r"packs \(was None, is 7\)"),
    ],
)
def test_a_changed_run_is_refused_by_name_unless_that_is_allowed(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    now, name = {**FINGERPRINTS, **change}, next(iter(change))
    with pytest.raises(ConfigError, match=rf"these changed: {named}.*--allow_change {name} \({name}: "):
        refuse_changed_run(FINGERPRINTS, now, tmp_path / "checkpoint-3")
    noted = refuse_changed_run(FINGERPRINTS, now, tmp_path / "checkpoint-3", allowed=[name.replace("_", " ")])
    assert noted == [{"name": name, "was": FINGERPRINTS[name], "is": now[name], "checkpoint": "checkpoint-3"}]


def test_what_is_trained_is_told_in_words_and_compared_by_its_weights(tmp_path: Path) -> None:
    """A hash says nothing to who forgot --use_lora, or gave another --lora_r. By itself the text is no difference."""
    before = {"trained_weights": "a" * 32, "trained_as": "no adapter"}
    now = {"trained_weights": "b" * 32, "trained_as": "LoRA, lora_r 16"}
    told = (
        r"these changed: trained_weights \(was no adapter, is LoRA, lora_r 16\)\. .*--allow_change trained_weights \("
    )
    with pytest.raises(ConfigError, match=told):
        refuse_changed_run(before, now, tmp_path / "checkpoint-3")
    with pytest.raises(ConfigError, match=r"these changed: trained_weights\. "):
        refuse_changed_run(before, {**now, "trained_as": "no adapter"}, tmp_path / "checkpoint-3")
    older = {"trained_weights": before["trained_weights"]}
    assert refuse_changed_run(older, before, tmp_path / "checkpoint-3") == []


def test_allowing_what_is_not_compared_is_refused_with_what_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'sead': nothing of that name is compared\. Known: chat_template, code"):
        refuse_changed_run(FINGERPRINTS, FINGERPRINTS, tmp_path, allowed=["sead"])


def test_starting_anew_removes_what_the_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    clear_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert list_checkpoints(tmp_path) == []
