"""YAML, JSON and TOML say the same, and each value knows its line. Bad files: tests/cli/test_bad_configs.py."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from sft.config import read_file
from sft.config.values import RawValue
from sft.errors import ConfigError

YAML = """\
# a comment
lora_r: 8
learning_rate: 2.0e-4   # a number in YAML 1.1 too

columns:
  prompt: question
  response: answer
target_modules: [q_proj, v_proj]
"""
JSON = """\
{
  "lora_r": 8, "learning_rate": 2e-4,

  "columns": {
    "prompt": "question",
\t"response": "answer"},
  "target_modules": ["q_proj",
    "v_proj"]
}
"""
TOML = """\
lora_r = 8
learning_rate = 2e-4
target_modules = ["q_proj", "v_proj"]

[columns]
prompt = "question"
"response" = 'answer'
"""
LINES = {
    "a.yaml": {"lora_r": 2, "learning_rate": 3, "columns": 5, "target_modules": 8, "prompt": 6, "response": 7},
    "a.json": {"lora_r": 2, "learning_rate": 2, "columns": 4, "target_modules": 7, "prompt": 5, "response": 6},
    "a.toml": {"lora_r": 1, "learning_rate": 2, "columns": 5, "target_modules": 3, "prompt": 6, "response": 7},
}


def read(folder: Path, name: str, text: str) -> dict[str, RawValue]:
    (folder / name).write_text(text, encoding="utf-8")
    return read_file(folder / name)


@pytest.mark.parametrize(("name", "text"), [("a.yaml", YAML), ("a.json", JSON), ("a.toml", TOML)])
def test_values_and_lines(name: str, text: str, tmp_path: Path) -> None:
    values = read(tmp_path, name, text)
    expected = yaml.safe_load(YAML)
    assert {key: raw.value for key, raw in values.items()} == expected
    entries = values | values["columns"].entries()
    places = {key: int(raw.origin.rpartition(":")[2]) for key, raw in entries.items()}
    assert places == LINES[name]
    assert all(raw.origin.startswith(str(tmp_path / name)) for raw in entries.values())


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2e-4", 2e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-3", -3),
        ("010", 10),
        ("no", "no"),
        ("Off", "Off"),
        ("True", True),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0x10", "0x10"),
        ("~", None),
        ("null", None),
        ("'7'", "7"),
        ("''", ""),
        ("{a: 1e-6, b: [yes, ~]}", {"a": 1e-6, "b": ["yes", None]}),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_yaml_scalars(written: str, value: object, tmp_path: Path) -> None:
    read_back = read(tmp_path, "a.yaml", f"key: {written}")["key"].value
    assert read_back == value
    assert type(read_back) is type(value)


def test_a_yaml_key_without_a_value_is_left_out(tmp_path: Path) -> None:
    assert set(read(tmp_path, "a.yml", "seed:\nlora_r: 8\nrun_name:   # later\n")) == {"lora_r"}


def test_yaml_aliases(tmp_path: Path) -> None:
    values = read(tmp_path, "a.yaml", "data_path:\n- {path: a, columns: &c {prompt: q}}\n- {path: b, columns: *c}\n")
    assert values["data_path"].value[1] == {"path": "b", "columns": {"prompt": "q"}}


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", ""), ("a.yaml", "# nothing\n"), ("a.json", "{}"), ("a.toml", "")]
)
def test_an_empty_file_says_nothing(name: str, text: str, tmp_path: Path) -> None:
    assert read(tmp_path, name, text) == {}


def test_byte_order_mark_and_windows_lines(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfseed: 1\r\nlora_r: 8\r\n")
    values = read_file(tmp_path / "a.yaml")
    assert {key: raw.value for key, raw in values.items()} == {"seed": 1, "lora_r": 8}
    assert values["lora_r"].origin.endswith(":2")


def test_inner_duplicates_in_json(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prompt is given twice"):
        read(tmp_path, "a.json", json.dumps({"a": 1})[:-1] + ', "columns": {"prompt": "a", "prompt": "b"}}')


def test_a_dotted_toml_key_is_a_mapping(tmp_path: Path) -> None:
    assert read(tmp_path, "a.toml", 'columns.prompt = "q"\n')["columns"].value == {"prompt": "q"}


def test_folders_pipes_and_giants_are_no_configurations(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        read_file(tmp_path / "folder.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match="no regular file"):
        read_file(tmp_path / "pipe.yaml")
    with (tmp_path / "giant.json").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ConfigError, match="larger than"):
        read_file(tmp_path / "giant.json")


def test_a_path_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        read_file(tmp_path / f"{'x' * 5000}.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        read_file("~nobody-of-this-name/a.yaml")
