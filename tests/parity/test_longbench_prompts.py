"""What a model is asked, beside LongBench's own rules written out from its published configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sft.tasks import TaskOptions, open_tasks
from sft.tasks.prompts import cut_middle, stop_token_ids

PLAIN = ("trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p")
TOKENIZERS = ("qwen3-tokenizer", "gpt-neox-20b-tokenizer", "stories260K-hf")


@pytest.fixture(scope="module")
def config(shared_data: Path) -> dict[str, Any]:
    folder = shared_data / "longbench" / "config"
    return {name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("dataset2prompt",)}


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> dict[str, list[dict[str, Any]]]:
    """Real rows by subset."""
    found: dict[str, list[dict[str, Any]]] = {}
    lines = (shared_data / "minilongbench" / "rows_longbench_schema.jsonl").read_text("utf-8").splitlines()
    for row in map(json.loads, lines):
        found.setdefault(row["dataset"], []).append(row)
    return found


def official_prompt(row: dict[str, Any], template: str, tokenizer: Any, max_length: int) -> Any:
    """The rules of pred.py: fill in, cut the middle if longer, and only then the chat."""
    prompt = template.format(**row)
    ids = tokenizer(prompt, truncation=False).input_ids
    if len(ids) > max_length:
        half = int(max_length / 2)
        head = tokenizer.decode(ids[:half], skip_special_tokens=True)
        prompt = head + tokenizer.decode(ids[-half:], skip_special_tokens=True)
    if row["dataset"] in PLAIN:
        return tokenizer(prompt, truncation=False).input_ids
    return f"[INST]{prompt}[/INST]"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TOKENIZERS)
def test_prompts_equal_the_official_rules(
    name: str, shared_data: Path, rows: dict[str, list[dict[str, Any]]], config: dict[str, Any]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "models" / name)
    file = shared_data / "minilongbench" / "rows_longbench_schema.jsonl"
    tasks = open_tasks("longbench", TaskOptions(longbench_dir=str(file)))
    assert len(tasks) == 21
    num_cut = 0
    for task in tasks:
        subset = task.name.split("/")[1]
        row = min(rows[subset], key=lambda row: len(row["context"]))
        example = next(example for example in task.examples() if example.id == row["_id"])
        num_tokens = len(tokenizer(task.prompt(example)).input_ids)
        for max_length in (num_tokens, num_tokens - 1, 101):
            text = cut_middle(task.prompt(example), tokenizer, max_length)
            written = f"[INST]{text}[/INST]" if task.chat else tokenizer(text).input_ids
            expected = official_prompt(row, config["dataset2prompt"][subset], tokenizer, max_length)
            assert written == expected, (subset, max_length)
            num_cut += num_tokens > max_length
    assert num_cut >= 42


def test_every_real_row_is_asked_in_the_authors_words(
    shared_data: Path, rows: dict[str, list[dict[str, Any]]], config: dict[str, Any]
) -> None:
    file = shared_data / "minilongbench" / "rows_longbench_schema.jsonl"
    for task in open_tasks("longbench", TaskOptions(longbench_dir=str(file))):
        subset = task.name.split("/")[1]
        assert len(task.examples()) == len(rows[subset])
        for example, row in zip(task.examples(), rows[subset], strict=True):
            assert task.prompt(example) == config["dataset2prompt"][subset].format(**row)
            assert list(example.references) == row["answers"]
            assert example.length == row["length"]


def test_the_line_break_ends_samsum_only(shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "models" / "qwen3-tokenizer")
    stops = {task.name: stop_token_ids(task, tokenizer) for task in open_tasks("longbench")}
    assert stops.pop("longbench/samsum") == (tokenizer.encode("\n", add_special_tokens=False)[-1],)
    assert set(stops.values()) == {()}


def test_an_odd_limit_gives_two_halves_rounded_down(shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "models" / "qwen3-tokenizer")
    assert cut_middle("one two three four five six seven eight nine", tokenizer, 5) == "one two eight nine"
