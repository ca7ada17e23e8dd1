"""Configurations that are mistaken or mean harm: each is refused, with the place and what to do instead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sft.config import load_config
from sft.errors import ConfigError

BASE = "model_name_or_path: m\ndata_path: d.jsonl\n"
THIRD, FOURTH = "run.yaml:3", "run.yaml:4"

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{now}: &{now} [{','.join(['*' + before] * 9)}]\n" for before, now in zip("abcdefg", "bcdefgh", strict=True)
)
"""Nine of nine of nine of ..."""

YAML: dict[str, tuple[str | bytes, Sequence[str]]] = {
    # names
    "a letter too many": (BASE + "lora_rr: 8\n", (THIRD, "lora_r?")),
    "a letter too few": (BASE + "learning_rat: 1e-4\n", (THIRD, "learning_rate?")),
    "a word too few": (BASE + "per_device_batch_size: 8\n", (THIRD, "Did you mean")),
    "capitals": (BASE + "Learning_Rate: 1e-4\n", (THIRD, "learning_rate?")),
    "dashes": (BASE + "learning-rate: 1e-4\n", (THIRD, "learning_rate?")),
    "a section": (BASE + "lora:\n  r: 8\n", (THIRD, "lora_r?")),
    "plugins": (BASE + "plugins: [os]\n", (THIRD, "plugins", "sft schema")),
    "variables of the environment": (BASE + "env:\n  LD_PRELOAD: evil.so\n", (THIRD, "env", "sft schema")),
    "a number for a name": (BASE + "5: 6\n", (THIRD, "must be text")),
    # types
    "a word for a number": (BASE + "max_length: long\n", (THIRD, "max_length", "whole number")),
    "a fraction for a count": (BASE + "max_length: 512.5\n", (THIRD, "whole number")),
    "a list for a number": (BASE + "max_length: [512]\n", (THIRD, "whole number")),
    "a mapping for a number": (BASE + "learning_rate: {a: 1}\n", (THIRD, "must be a number")),
    "null for a number": (BASE + "learning_rate: null\n", (THIRD, "leave the option out")),
    "maybe": (BASE + "packing: maybe\n", (THIRD, "true or false")),
    "an octal number": (BASE + "seed: 0o17\n", (THIRD, "whole number")),
    "a number for a text": (BASE + "chat_template: 5\n", (THIRD, "quote it")),
    "a number with a letter": (BASE + "max_length: 1_000x\n", (THIRD, "whole number")),
    # ranges
    "accumulation below zero": (BASE + "gradient_accumulation_steps: -2\n", (THIRD, "at least 1")),
    "accumulation of zero": (BASE + "gradient_accumulation_steps: 0\n", (THIRD, "at least 1")),
    "a length below zero": (BASE + "max_length: -5\n", (THIRD, "at least 2")),
    "a length past all memory": (BASE + f"max_length: {10**24}\n", (THIRD, "at most")),
    "decay below zero": (BASE + "weight_decay: -1\n", (THIRD, "at least 0")),
    "no steps": (BASE + "max_steps: 0\n", (THIRD, "trains nothing")),
    "no epochs": (BASE + "num_train_epochs: 0\n", (THIRD, "above 0")),
    "saves every zero steps": (BASE + "save_steps: 0\nsave_strategy: steps\n", (THIRD, "above 0")),
    "a rate of a million": (BASE + "learning_rate: 1000000\n", (THIRD, "at most 10")),
    "a rate that is no number": (BASE + "learning_rate: .nan\n", (THIRD, "finite")),
    "an infinite rate": (BASE + "learning_rate: .inf\n", (THIRD, "finite")),
    "no rows a batch": (BASE + "per_device_train_batch_size: 0\n", (THIRD, "at least 1")),
    "half a row": (BASE + "per_device_train_batch_size: 2.5\n", (THIRD, "whole number")),
    "rank zero": (BASE + "use_lora: true\nlora_r: 0\n", (FOURTH, "at least 1")),
    "dropout of two": (BASE + "use_lora: true\nlora_dropout: 2\n", (FOURTH, "at most 0.99")),
    "one and a half rows held out": (BASE + "validation_size: 1.5\n", (THIRD, "share")),
    "a seed below zero": (BASE + "seed: -1\n", (THIRD, "at least 0")),
    # choices
    "a choice misspelt": (BASE + "train_on: everyting\n", (THIRD, "everything?")),
    "an optimizer misspelt": (BASE + "optim: adam_torch\n", (THIRD, "adamw_torch")),
    "a schedule misspelt": (BASE + "lr_scheduler_type: cosin\n", (THIRD, "cosine")),
    "a tracker misspelt": (BASE + "report_to: wnadb\n", (THIRD, "wandb")),
    # combinations
    "two precisions": (BASE + "fp16: true\nbf16: true\n", (THIRD, FOURTH, "Keep bf16")),
    "two widths": (
        BASE + "use_lora: true\nload_in_4bit: true\nload_in_8bit: true\n",
        (FOURTH, "run.yaml:5", "choose one"),
    ),
    "the best of no evaluation": (BASE + "load_best_model_at_end: true\n", (THIRD, "eval_data_path")),
    # addresses and placeholders
    "data at an address": ("model_name_or_path: m\ndata_path: http://a.example/a.jsonl\n", ("run.yaml:2", "a path on")),
    "a model at an address": ("data_path: d.jsonl\nmodel_name_or_path: https://a.example/m\n", ("run.yaml:2", "hub")),
    "output at an address": (BASE + "output_dir: s3://bucket/x\n", (THIRD, "a path on this machine")),
    "a placeholder": (BASE + "output_dir: ${oc.env:HOME}/x\n", (THIRD, "nothing is filled in")),
    "a token": (BASE + f"run_name: hf_{'a1B2' * 9}\n", (THIRD, "HF_TOKEN")),
    # YAML itself
    "an option twice": (BASE + "max_length: 512\nmax_length: 1024\n", (FOURTH, "keep one")),
    "merge keys": (BASE + "a: &a {x: 1}\n<<: *a\n", (FOURTH, "write the options out")),
    "a tag that runs code": (BASE + "run_name: !!python/object/apply:os.system ['touch canary']\n", (THIRD, "tag")),
    "a tag of one's own": (BASE + "run_name: !Env HOME\n", (THIRD, "tag")),
    "aliases that multiply": (BOMB, ("run.yaml:3", "aliases")),
    "many aliases": ("a: &a x\nb: [" + "*a," * 100_000 + "]\n", ("run.yaml:2", "aliases")),
    "an alias in itself": ("a: &a [*a]\n", ("run.yaml:1", "contains itself")),
    "two documents": (BASE + "---\nmax_length: 5\n", (THIRD, "keep one")),
    "a tab": (BASE + "lora:\n\tr: 8\n", (FOURTH, "spaces")),
    "a bracket left open": (BASE + "report_to: [a, b\n", (FOURTH, "expected")),
    "a list at the top": ("- a\n- b\n", ("run.yaml:1", "a mapping of options")),
    "words": ("just words\n", ("run.yaml:1", "a mapping of options")),
    "null": ("null\n", ("run.yaml:1", "a mapping of options")),
    "deep brackets": ("a: " + "[" * 5000 + "]" * 5000 + "\n", ("run.yaml", "too deeply")),
    "more than a mebibyte": ("a: " + "x" * 2_000_000 + "\n", ("run.yaml", "--data_path")),
    "another alphabet's bytes": (BASE.encode() + b"run_name: caf\xe9\n", (THIRD, "UTF-8")),
    "two bytes a letter": (BASE.encode("utf-16"), ("run.yaml:1", "UTF-8")),
    "a zero byte": (BASE + 'run_name: "a\0b"\n', (THIRD, "U+0000")),
}
OTHER_FILES: dict[str, tuple[str, Sequence[str]]] = {
    "run.json:a comma too many": ('{"max_length": 512,}', ("run.json:1", "JSON")),
    "run.json:an option twice": ('{"max_length": 512,\n "max_length": 1}', ("run.json:2", "keep one")),
    "run.json:no number": ('{"learning_rate": NaN}', ("run.json:1", "no number")),
    "run.json:a list": ("[1]", ("run.json:1", "one JSON object")),
    "run.json:deep": ("[" * 100_000, ("run.json", "too deeply")),
    "run.toml:not TOML": ("max_length = \n", ("run.toml:1",)),
    "run.txt:another kind": ("max_length: 5", ("run.txt", ".yaml")),
    "run.jsonl:data": ('{"messages": []}', ("run.jsonl", "--data_path")),
}
COMMANDS: dict[str, tuple[list[str], Sequence[str]]] = {
    "an abbreviation": (["--learning_r", "0.5"], ("--learning_r", "learning_rate?")),
    "an option twice": (["--seed", "1", "--seed", "2"], ("--seed", "twice")),
    "no value": (["--max_length"], ("--max_length", "needs a value")),
    "a word by itself": (["max_length"], ("max_length",)),
    "a file that is not there": (["nowhere.yaml"], ("nowhere.yaml", "no such file")),
    "two files": (["a.yaml", "b.yaml"], ("a.yaml", "b.yaml")),
}


def refused(file: Path | None, argv: Sequence[str], said: Sequence[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(file, argv)
    message = str(caught.value)
    assert [part for part in said if part not in message] == [], message
    assert len(message) < 2000


@pytest.mark.parametrize("name", YAML)
def test_a_yaml_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, said = YAML[name]
    file = tmp_path / "run.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(file, [], said)
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize("name", OTHER_FILES)
def test_another_file_is_refused(name: str, tmp_path: Path) -> None:
    text, said = OTHER_FILES[name]
    file = tmp_path / name.partition(":")[0]
    file.write_text(text)
    refused(file, [], said)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_refused(name: str) -> None:
    argv, said = COMMANDS[name]
    refused(None, argv, said)


def test_there_are_as_many_as_are_promised() -> None:
    assert len(YAML) + len(OTHER_FILES) + len(COMMANDS) >= 60
