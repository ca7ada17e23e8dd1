"""The stages pretrain and dpo from the command line: what is shown, planned and refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from sft.cli.main import main


@pytest.fixture
def common(tiny_model_folder: Path, tmp_path: Path) -> list[str]:
    return ["--model_name_or_path", str(tiny_model_folder), "--cache_dir", str(tmp_path / "cache")]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [{"instruction": f"Count to {n}", "chosen": "1 2", "rejected": "No."} for n in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("b", "a"):
        (folder / f"{name}.txt").write_text(f"The {name} of the sea, the wind and the stars.\n", encoding="utf-8")
    return folder


def test_inspect_says_which_answer_is_which(common: list[str], pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["inspect", "--stage", "dpo", "--data_path", str(pairs), *common, "--num_examples", "2"]
    assert main([*words, "--json"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["side"] for one in shown] == ["chosen", "rejected"]
    assert [one["trained_text"] for one in shown] == ["1 2<|im_end|>", "No.<|im_end|>"]
    assert main(words) == 0
    out = " ".join(capsys.readouterr().out.split())  # a long path folds its line
    assert "pairs.jsonl:1, chosen: " in out
    assert "pairs.jsonl:1, rejected: " in out


def test_inspect_shows_blocks_and_names_what_is_left_over(
    common: list[str], texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["inspect", "--stage", "pretrain", "--data_path", str(texts), *common, "--json", "--num_examples", "0"]
    assert main([*words, "--max_length", "1024"]) == 0
    (whole,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ids = whole["input_ids"]
    assert whole["loss_mask"] == [0] + [1] * (len(ids) - 1)
    assert whole["trained_text"] == (
        " a of the sea, the wind and the stars.\n<|im_end|>The b of the sea, the wind and the stars.\n<|im_end|>"
    )
    assert main([*words, "--max_length", str(len(ids) - 1)]) == 0
    captured = capsys.readouterr()
    assert [json.loads(line)["input_ids"] for line in captured.out.splitlines()] == [ids[:-1]]
    assert "dropped: " in captured.err
    assert "b.txt:1: 1 tokens, one token left over" in captured.err


@pytest.mark.parametrize(
    ("stage", "said"),
    [("pretrain", "2 rows -> 2 documents -> 2 blocks"), ("dpo", "3 rows -> 3 pairs of answers")],
)
def test_plan_counts_what_the_stage_learns(
    common: list[str], texts: Path, pairs: Path, capsys: pytest.CaptureFixture[str], stage: str, said: str
) -> None:
    path = {"pretrain": texts, "dpo": pairs}[stage]
    words = ["plan", "--stage", stage, "--data_path", str(path), "--max_length", "32", *common]
    assert main(words) == 0
    assert said in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert plan["stage"] == stage
    assert {"pretrain": plan.get("blocks"), "dpo": plan.get("pairs")}[stage] == {"pretrain": 2, "dpo": 3}[stage]


def test_what_a_stage_has_no_use_for_is_refused_by_name(
    common: list[str], pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--stage", "dpo", "--packing", "--data_path", str(pairs), *common]) == 2
    assert "packing = true (--packing) in stage = 'dpo' (--stage) would be ignored" in capsys.readouterr().err


def test_pairs_in_the_usual_stage_are_refused_with_the_stage_they_are_for(
    common: list[str], pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--data_path", str(pairs), *common]) == 2
    assert "Set stage: dpo" in capsys.readouterr().err


def test_without_trl_the_extra_is_named_before_anything_is_read(
    common: list[str], pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "trl" else found(name, *more))
    assert main(["train", "--stage", "dpo", "--data_path", str(pairs.with_name("absent.jsonl")), *common]) == 2
    assert "stage = dpo needs the package trl" in (told := capsys.readouterr().err)
    assert "pip install 'sft-kit[dpo]'" in told
