"""`sft inspect`: what is trained, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sft.cli.main import main


@pytest.fixture
def words(tiny_tokenizer_folder: Path, alpaca_file: Path, tmp_path: Path) -> list[str]:
    cache = ["--cache_dir", str(tmp_path / "cache")]
    return ["inspect", "--data_path", str(alpaca_file), "--model_name_or_path", str(tiny_tokenizer_folder), *cache]


def objects(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_one_object_a_line(words: list[str], tiny_tokenizer_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json", "--num_examples", "3"]) == 0
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    found = objects(capsys.readouterr().out)
    assert len(found) == 3
    for described in found:
        assert set(described) >= {"source", "text", "input_ids", "loss_mask", "trained_text", "trained_spans"}
        assert described["input_ids"] == tokenizer(described["text"], add_special_tokens=False)["input_ids"]
        assert len(described["loss_mask"]) == len(described["input_ids"])
        trained = [token for token, mask in zip(described["input_ids"], described["loss_mask"], strict=True) if mask]
        assert described["trained_text"] == "".join(described["trained_spans"]) == tokenizer.decode(trained)
        assert described["trained_text"].endswith("<|im_end|>")
    assert found[0]["trained_text"] == "1 2<|im_end|>"
    assert found[0]["source"].endswith("alpaca.json:2")


def test_zero_shows_all(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json", "--num_examples", "0"]) == 0
    assert len(objects(capsys.readouterr().out)) == 40


def test_for_people(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--num_examples", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("⟦1 2") == 2
    assert out.count("tokens that carry loss") == 1
    assert "\x1b" not in out


def test_examples_that_training_would_drop_are_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json", "--num_examples", "0", "--max_length", "32"]) == 0
    captured = capsys.readouterr()
    shown = objects(captured.out)
    dropped = captured.err.count("longer than max_length 32")
    assert dropped > 0
    assert len(shown) + dropped == 40
    assert all(len(described["input_ids"]) <= 32 for described in shown)


def test_nothing_to_show_is_an_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--max_length", "5"]) == 2
    assert "no row can be shown" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--num_examples", "-1"], ["--num_examples", "many"], ["--chat_template", "chatlm"]])
def test_mistakes(words: list[str], more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, *more]) == 2
    err = capsys.readouterr().err
    assert more[1].lstrip("-") in err
    assert "Traceback" not in err


def test_plain_text_without_a_chat_template(
    words: list[str], alpaca_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"instruction": "Add.", "input": "1 1", "output": "2"}]
    alpaca_file.write_text(json.dumps(rows), encoding="utf-8")
    assert main([*words, "--json", "--use_chat_template", "False"]) == 0
    [described] = objects(capsys.readouterr().out)
    assert described["text"] == "Instruction: Add.\nInput: 1 1\nResponse: 2<|im_end|>\n"
    assert described["trained_text"] == " 2<|im_end|>"
