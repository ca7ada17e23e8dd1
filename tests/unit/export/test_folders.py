from __future__ import annotations

from pathlib import Path

import pytest

from sft.export.folders import written_whole


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_a_folder_appears_only_when_all_is_written(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    with written_whole(target) as partial:
        (partial / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert names(target.parent) == {"model"}


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_text("old")

    def write(keep_others: bool) -> None:
        with written_whole(target, keep_others=keep_others) as partial:
            (partial / "new").write_text("new")
            raise RuntimeError("disk")

    for keep_others in (False, True):
        with pytest.raises(RuntimeError, match="disk"):
            write(keep_others)
        assert names(target) == {"old"}
    assert names(tmp_path) == {"model"}


def test_a_whole_folder_is_replaced_and_an_empty_one_filled(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    for content in ("one", "two"):
        with written_whole(target) as partial:
            (partial / content).write_text(content)
        assert names(target) == {content}
    assert names(tmp_path) == {"model"}


def test_a_run_folder_keeps_everything_but_earlier_weights(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoint-3").mkdir(parents=True)
    (run / "checkpoint-3" / "model.safetensors").write_text("checkpoint")
    for name in ("run.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "adapter_config.json"):
        (run / name).write_text("old")
    with written_whole(run, keep_others=True) as partial:
        (partial / "model.safetensors").write_text("new")
        (partial / "parts").mkdir()
        (partial / "parts" / "x").write_text("x")
    assert names(run) == {"checkpoint-3", "run.json", "model.safetensors", "parts"}
    assert (run / "checkpoint-3" / "model.safetensors").read_text() == "checkpoint"


def test_files_are_as_readable_as_any_new_file(tmp_path: Path) -> None:
    with written_whole(tmp_path / "model") as partial:
        (partial / "weights").write_text("w")
        (partial / "weights").chmod(0o600)
        (partial / "usual").write_text("u")
        usual = (partial / "usual").stat().st_mode
    assert (tmp_path / "model" / "weights").stat().st_mode == usual
