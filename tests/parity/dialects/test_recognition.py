"""Each file is recognised as written in its own dialect and in no other; ours as ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sft.config import RawValue, read_file
from sft.config.catalog import OPTIONS
from sft.config.training_arguments import installed_fields
from sft.dialects import DIALECTS, recognise

HERE = Path(__file__).parent
REPOSITORY = Path(__file__).resolve().parents[3]
CORPORA = {
    "axolotl.jsonl": "axolotl",
    "firefly.jsonl": "firefly_args",
    "llama_factory.jsonl": "llama_factory",
    "trl.jsonl": "trl",
}
FENCED = re.compile(r"```ya?ml\n(.*?)```", re.DOTALL)


def raw(values: dict[str, Any]) -> dict[str, RawValue]:
    return {key: RawValue(value, "train.yaml:1") for key, value in values.items()}


def claims(values: dict[str, RawValue]) -> list[str]:
    """Every dialect that takes the values for its own, whatever the order they are asked in."""
    return [name for name, dialect in DIALECTS.items() if dialect.recognises(values)]


@pytest.mark.parametrize("file", CORPORA)
def test_every_shipped_file_is_of_its_own_dialect_alone(file: str) -> None:
    lines = (HERE / file).read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    assert len(entries) >= 16
    for entry in entries:
        assert claims(raw(entry["values"])) == [CORPORA[file]], entry["path"]


def test_files_of_our_recipes_are_of_the_dialect_of_their_folder() -> None:
    expected = {"accelerate": "accelerate_yaml", "firefly": "firefly_args", "llama_factory": "llama_factory"}
    seen = set()
    for path in sorted((REPOSITORY / "recipes").rglob("*.yaml")) + sorted((REPOSITORY / "recipes").rglob("*.json")):
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        if not isinstance(values, dict) or not any(key in text for key in ("learning_rate", "epoch")):
            continue  # an environment, a DeepSpeed file, a data set
        folder = path.relative_to(REPOSITORY / "recipes").parts[0]
        if "compute_environment" in values or "zero_optimization" in values:
            continue
        found = claims(read_file(path))
        assert found in ([expected[folder]] if folder in expected else [], []), path
        seen.update(found)
    assert "accelerate_yaml" in seen


def test_files_in_our_own_words_are_ours() -> None:
    """Every example in the docs and the README whose keys are our options, and each option by itself."""
    examples = [
        values
        for path in [*sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "README.md"]
        for block in FENCED.findall(path.read_text(encoding="utf-8"))
        if isinstance(values := yaml.safe_load(block), dict) and all(key in OPTIONS for key in values)
    ]
    assert len(examples) >= 2
    for values in [*examples, dict.fromkeys(OPTIONS), dict.fromkeys(installed_fields())]:
        assert recognise(raw(values)) is None
