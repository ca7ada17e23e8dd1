"""`sft plan --config_only`: what a configuration says, without loading anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "transformers", "numpy", "jinja2", "tokenizers", "peft")
COMMAND = f"""
import json, sys
from sft.cli.main import main
code = main()
print(json.dumps([code, sorted(name for name in {HEAVY!r} if name in sys.modules)]))
"""


def planned(*words: str) -> tuple[list[str], str]:
    done = subprocess.run([sys.executable, "-c", COMMAND, "plan", *words], capture_output=True, text=True, check=True)
    *lines, last = done.stdout.splitlines()
    code, heavy = json.loads(last)
    assert heavy == [], heavy
    return [str(code), *lines], done.stderr


def test_it_shows_what_was_given_and_where(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model_name_or_path: no/where\nlearning_rate: 1e-4\n")
    (code, *lines), _ = planned(str(file), "--config_only", "--lora_r", "16", "--use_lora")
    assert code == "0"
    assert lines[0] == "configuration"
    assert [line.split() for line in lines[1:-1]] == [
        ["model_name_or_path", "'no/where'", f"({file}:1)"],
        ["use_lora", "true", "(--use_lora)"],
        ["lora_r", "16", "(--lora_r)"],
        ["learning_rate", "0.0001", f"({file}:2)"],
    ]
    assert "options keep their defaults" in lines[-1]
    (_, line), _ = planned(str(file), "--config_only", "--json")
    assert json.loads(line)["learning_rate"] == {"value": 0.0001, "origin": f"{file}:2"}


def test_a_mistake_is_told_as_quickly(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model_name_or_path: m\nlora_rr: 8\n")
    (code, *_), said = planned(str(file), "--config_only")
    assert code == "2"
    assert f"lora_rr ({file}:2) is no option. Did you mean lora_r?" in said
