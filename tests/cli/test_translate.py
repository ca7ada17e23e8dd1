from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from sft.cli.main import main
from sft.config import load_config

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
LORA = RECIPES / "accelerate" / "lora_train_config.yaml"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", ["default_train_config.yaml", "lora_train_config.yaml"])
def test_what_is_printed_trains_the_same(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sft.cli.options import config_from_words

    monkeypatch.chdir(tmp_path)
    assert main(["translate", str(RECIPES / "accelerate" / name)]) == 0
    ours = tmp_path / "ours.yaml"
    ours.write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_config(ours) == config_from_words([str(RECIPES / "accelerate" / name)])


def test_json_is_one_object_with_a_note_per_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", str(LORA), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["dialect"] == "accelerate_yaml"
    assert printed["config"]["lora_r"] == 16
    notes = {note["key"]: note for note in printed["notes"]}
    assert notes["model.lora_config.r"] == {
        "key": "model.lora_config.r",
        "status": "renamed",
        "target": "lora_r",
        "reason": "",
        "origin": f"{LORA}:11",
    }


def test_table_names_status_key_option_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", str(LORA)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "# renamed    training.epochs -> num_train_epochs" in lines
    assert "# kept       training.seed" in lines
    (ignored,) = [line for line in lines if "task_type" in line]
    assert ignored.startswith("# ignored    model.lora_config.task_type  ")
    assert ignored.endswith("trained here")
    assert "\x1b" not in "".join(lines), "colours are for terminals only"


def test_statuses_are_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    assert main(["translate", str(LORA)]) == 0
    assert "\x1b[36mrenamed  \x1b[0m" in terminal.getvalue()


def test_options_behind_the_file_win(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", str(LORA), "--use_lora", "False", "--json"]) == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert (config["use_lora"], config["model_dir"]) == (False, ".")
    assert "merged_dir" not in config


def test_a_refused_key_is_shown_and_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("model:\n  path: m\n  lora: true\ndataset:\n  name: d.jsonl\n")
    assert main(["translate", str(path)]) == 2
    out, err = capsys.readouterr()
    assert "# refused    model.lora " in out
    assert f"model.lora ({path}:3)" in err
    assert main(["translate", str(path), "--json"]) == 2
    printed = json.loads(capsys.readouterr().out)
    assert printed["config"] is None
    assert "refused" in [note["status"] for note in printed["notes"]]


def test_a_value_that_cannot_be_used_is_an_error_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("model:\n  path: m\ndataset:\n  name: d.jsonl\ntraining:\n  learning_rate: fast\n")
    assert main(["translate", str(path)]) == 2
    assert f"learning_rate = 'fast' ({path}:6 (training.learning_rate))" in capsys.readouterr().err


def test_a_command_line_can_be_translated(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dialect", "qwen3_args", "--data_path", "d.json", "--no_eval", "--warmup_ratio", "0.1"]
    assert main(["translate", *words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["dialect"] == "qwen3_args"
    assert printed["config"]["do_eval"] is False
    assert printed["config"]["warmup_steps"] == 0.1


def test_a_file_of_ours_is_kept_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text("data_path: d.jsonl\nlearning_rate: 2e-4\nmax_seq_length: 64\n")
    assert main(["translate", str(path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["dialect"] == "sft"
    assert printed["config"] == {"data_path": "d.jsonl", "max_length": 64, "learning_rate": 2e-4}
    assert [note["status"] for note in printed["notes"]] == ["kept", "kept", "renamed"]


def test_no_file_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate"]) == 2
    assert "sft translate FILE" in capsys.readouterr().err


def test_keys_that_ask_for_nothing_are_explained_once_and_not_in_every_run(tmp_path: Path) -> None:
    from sft.cli.options import config_from_words

    assert not any("task_type" in note for note in config_from_words([str(LORA)]).notes)
    path = tmp_path / "axolotl.yaml"
    path.write_text(
        "base_model: m\ndatasets: [{path: d.jsonl, type: alpaca}]\nlearning_rate: 1\nwandb_name:\nfp8: false\n"
    )
    assert not any("wandb_name" in note or "fp8" in note for note in config_from_words([str(path)]).notes)


def test_every_default_of_the_other_tool_is_shown_with_its_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trl.yaml"
    path.write_text("model_name_or_path: m\ndataset_name: d\n")
    assert main(["translate", str(path)]) == 0
    defaults = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# defaulted")]
    assert len(defaults) >= 10
    assert all(len(line.split(maxsplit=3)) == 4 for line in defaults)
    assert any(line.split() == ["#", "defaulted", "max_length", "1024"] for line in defaults)
