"""One run through every door gives one model, bit for bit: Python, command line, our YAML, a sectioned YAML."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from sft import SFTConfig, SFTTrainer
from sft.cli.main import main

LORA = {"use_lora": True, "lora_r": 4, "lora_alpha": 8.0, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
SECTIONED = {
    "model_name_or_path": ("model", "path"),
    "max_length": ("model", "max_seq_length"),
    "use_lora": ("model", "use_lora"),
    "data_path": ("dataset", "name"),
}

Door = Callable[[dict[str, Any], Path], None]


def by_python(settings: dict[str, Any], folder: Path) -> None:
    SFTTrainer(SFTConfig(**settings)).train()


def by_command_line(settings: dict[str, Any], folder: Path) -> None:
    words: list[str] = []
    for name, value in settings.items():
        words += [f"--{name}", *(value if isinstance(value, list) else [str(value)])]
    assert main(["train", *words]) == 0


def by_our_yaml(settings: dict[str, Any], folder: Path) -> None:
    path = folder / "ours.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main(["train", str(path)]) == 0


def by_sectioned_yaml(settings: dict[str, Any], folder: Path) -> None:
    """The dialect of recipes/accelerate; numbers as the texts that YAML 1.1 makes of 1e-2."""
    sections: dict[str, dict[str, Any]] = {"model": {}, "dataset": {}, "training": {}}
    for name, value in settings.items():
        section, key = SECTIONED.get(name, ("training", name))
        sections[section][key] = f"{value:e}" if isinstance(value, float) else value
    adapter = {key: sections["training"].pop(key) for key in list(sections["training"]) if key in LORA}
    sections["model"]["lora_config"] = {("r" if key == "lora_r" else key): value for key, value in adapter.items()}
    path = folder / "sectioned.yaml"
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")
    assert main(["train", str(path)]) == 0


DOORS: dict[str, Door] = {
    "python": by_python,
    "command line": by_command_line,
    "our yaml": by_our_yaml,
    "sectioned yaml": by_sectioned_yaml,
}


@pytest.fixture
def given(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings whose every value is written out, so that no door's own defaults decide anything."""
    return {
        **{name: value for name, value in settings.items() if value is not None},
        "max_steps": 3,
        "weight_decay": 0.01,
        "seed": 7,
        "overlong": "drop",
        "model_dir": "model",
        "report_to": "none",
    }


@pytest.mark.parametrize("adapter", [{}, {**LORA, "merged_dir": "merged"}], ids=["full", "lora"])
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_all_doors_give_the_same_weights(given: dict[str, Any], adapter: dict[str, Any], tmp_path: Path) -> None:
    results = {}
    for number, (name, enter) in enumerate(DOORS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        enter({**given, **adapter, "output_dir": str(folder / "run")}, folder)
        results[name] = {
            f"{path.parent.name}/{key}": tensor
            for path in sorted((folder / "run").glob("m*/*.safetensors"))
            for key, tensor in load_file(path).items()
        }
    first = results.pop("python")
    assert len(first) > 2
    for name, other in results.items():
        assert first.keys() == other.keys(), name
        differing = [key for key, tensor in first.items() if not torch.equal(tensor, other[key])]
        assert differing == [], name


def test_doors_record_where_each_value_came_from(given: dict[str, Any], tmp_path: Path) -> None:
    given["output_dir"] = str(tmp_path / "run")
    by_sectioned_yaml({**given, "max_steps": 1}, tmp_path)
    recorded = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    lines = (tmp_path / "sectioned.yaml").read_text(encoding="utf-8").splitlines()
    number = next(i for i, line in enumerate(lines, 1) if line.strip().startswith("seed:"))
    assert f"{tmp_path / 'sectioned.yaml'}:{number} (training.seed)" in json.dumps(recorded)
