from __future__ import annotations

import json
from pathlib import Path

import pytest

from sft import SFTConfig
from sft.config import RawValue, load_config
from sft.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text("data_path: d.jsonl\nuse_lora: true\nlora_r: 4\nwarmup_ratio: 0.1\neval_strategy: no\n")
    return path


def test_the_command_line_wins_over_the_file(file: Path) -> None:
    config = load_config(file, ["--lora_r", "16", "--packing"])
    assert (config.lora_r, config.packing, config.use_lora, config.eval_strategy) == (16, True, True, "no")
    assert config.origins["lora_r"] == "--lora_r"
    assert config.origins["use_lora"] == f"{file}:2"
    assert config.origins["seed"] == "default"


def test_the_file_may_be_among_the_words(file: Path) -> None:
    assert load_config(None, [str(file), "--lora_r", "16"]) == load_config(file, ["--lora_r", "16"])
    with pytest.raises(ConfigError, match="two configuration files"):
        load_config(file, [str(file)])


def test_a_new_name_overrides_an_old_one_in_the_file(file: Path) -> None:
    assert load_config(file, ["--warmup_steps", "5"]).warmup_steps == 5
    assert load_config(file, ["--warmup_ratio", "0.2"]).warmup_steps == 0.2
    with pytest.raises(ConfigError, match="Keep one"):
        load_config(file, ["--warmup_steps", "5", "--warmup_ratio", "0.2"])


def test_none_on_the_command_line_undoes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"dtype": "bfloat16", "save_total_limit": 5}')
    config = load_config(path, ["--dtype", "none", "--save_total_limit", "None"])
    assert (config.dtype, config.save_total_limit) == (None, None)


def test_base_stands_for_a_file_that_was_read_already() -> None:
    base = {"use_lora": RawValue(True, "foreign.yaml:7"), "lora_r": 4}
    config = load_config(None, ["foreign.yaml", "--lora_r", "8"], base=base, notes=["model.path is model_name_or_path"])
    assert (config.use_lora, config.lora_r) == (True, 8)
    assert config.origins["use_lora"] == "foreign.yaml:7"
    assert config.notes == ("model.path is model_name_or_path",)


def test_notes_name_the_line(file: Path) -> None:
    assert load_config(file).notes == (
        f"warmup_ratio ({file}:4) is warmup_steps now; below 1 it is a share of all steps",
    )


def test_python_words_and_files_give_equal_configs(tmp_path: Path) -> None:
    values = {
        "data_path": ["a.jsonl", "b.jsonl"],
        "columns": {"prompt": "q"},
        "learning_rate": 3e-4,
        "use_lora": True,
        "target_modules": ["q_proj", "v_proj"],
        "packing": False,
        "dtype": None,
        "adam_beta2": 0.95,
        "lr_scheduler_kwargs": {"num_cycles": 2},
    }
    words: list[str] = []
    for name, value in values.items():
        spoken = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else str(value)]
        words += [f"--{name}", *spoken]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(values))
    assert SFTConfig(**values) == load_config(None, words) == load_config(path)


def test_a_missing_file_and_a_bad_word_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "missing.yaml", ["--seed"])
    assert len(caught.value.problems) == 2


def test_a_resolved_config_runs_again(file: Path, tmp_path: Path) -> None:
    config = load_config(file, ["--max_steps", "5"])
    again = tmp_path / "again.json"
    again.write_text(json.dumps(config.to_dict()))
    assert load_config(again) == config
