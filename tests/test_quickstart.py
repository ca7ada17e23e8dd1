"""The quickstart is honest (nothing held out is ever trained on) and walks to its last line."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sft.report.reading import read_run

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "examples" / "quickstart"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"quickstart_{name}", QUICKSTART / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def turns(name: str) -> list[dict[str, str]]:
    lines = (QUICKSTART / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [turn for line in lines for turn in json.loads(line)["messages"]]


def questions(name: str) -> list[str]:
    return [turn["content"] for turn in turns(name) if turn["role"] == "user"]


def shown_questions() -> list[str]:
    """Those whose answers stand on the page of the run."""
    return (QUICKSTART / "data" / "questions.txt").read_text(encoding="utf-8").splitlines()


def asked_words(name: str) -> set[str]:
    """Every word of the questions that is one of words.txt."""
    known = set((QUICKSTART / "words.txt").read_text(encoding="utf-8").split())
    return {word for question in questions(name) for word in re.findall("[a-z]+", question.lower()) if word in known}


def test_data_is_what_the_script_writes() -> None:
    make_data = load("make_data")
    for name, rows in zip(("train", "heldout"), make_data.make_data(), strict=True):
        assert (QUICKSTART / "data" / f"{name}.jsonl").read_text(encoding="utf-8") == make_data.as_jsonl(rows)
    assert shown_questions() == make_data.choose_questions(make_data.make_data()[1])


def test_questions_of_the_page_are_held_out() -> None:
    assert 6 <= len(set(shown_questions())) == len(shown_questions()) <= 8
    assert set(shown_questions()) <= set(questions("heldout"))


def test_no_heldout_question_is_trained() -> None:
    assert len(questions("heldout")) == len(set(questions("heldout"))) == 450
    assert not set(questions("train")) & set(questions("heldout"))


def test_no_heldout_word_is_seen_in_training_at_all() -> None:
    assert len(asked_words("heldout")) == 150
    assert not asked_words("train") & asked_words("heldout")
    seen = " ".join(turn["content"].lower() for turn in turns("train"))
    assert not asked_words("heldout") & set(re.findall("[a-z]+", seen))


def test_every_task_is_trained_and_held_out() -> None:
    lines = (QUICKSTART / "data" / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    make_data = load("make_data")
    assert {json.loads(line)["task"] for line in lines} == set(make_data.TASKS)
    forms = [form for task in make_data.TASKS.values() for form in task.questions]
    for name in ("train", "heldout"):
        asked = questions(name)
        for form in forms:
            pattern = re.compile(re.escape(form).replace(re.escape("{}"), "[a-z]+"))
            assert any(pattern.fullmatch(question) for question in asked), (name, form)


def test_words_are_read_letter_by_letter() -> None:
    build_model = load("build_model")
    tokenizer = build_model.build_tokenizer(build_model.read_questions(QUICKSTART / "data" / "train.jsonl"))
    for word in sorted(asked_words("train") | asked_words("heldout")):
        pieces = tokenizer.tokenize(f"Spell {word} backwards.")
        assert pieces == ["Spell", "Ġ", *word, "Ġbackwards", "."]


def test_percent_is_over_all_questions() -> None:
    assert load("score").percent({"a": (1, 2), "b": (9, 10)}) == pytest.approx(100 * 10 / 12)


@pytest.mark.slow
def test_quickstart_walks_to_its_last_line(tmp_path: Path) -> None:
    """Every step runs, with four steps of training, on a copy."""
    shutil.copytree(QUICKSTART, tmp_path / "examples" / "quickstart")
    script = tmp_path / "examples" / "quickstart" / "quickstart.py"
    done = subprocess.run(
        [sys.executable, script, "--max_steps", "4"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "⟦eci<|im_end|>⟧" in done.stdout  # trained tokens are shown
    assert "0 of 450 held-out questions answered right" in done.stdout
    assert re.fullmatch(
        r"held-out exact match: before 0\.0 %, after \d+\.\d %", done.stdout.rstrip("\n").splitlines()[-1]
    )
    run = tmp_path / "quickstart" / "run"
    assert (run / "final_model" / "model.safetensors").exists()
    (asked,) = read_run(run).answers
    assert [(model.title, model.step) for model in asked.models] == [("untrained", 0), ("last", 4)]
    assert [row.question for row in asked.rows] == shown_questions()
    assert all(answer is not None for row in asked.rows for answer in row.answers)
