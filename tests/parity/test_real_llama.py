"""The real tiny Llama, tuned on real instruction rows through the command line: trained, resumed, merged, tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sft.cli.main import main
from sft.training.metrics_file import read_metrics

ROWS = 300


@pytest.fixture
def arguments(shared_data: Path, tmp_path: Path) -> list[str]:
    """What every run here has in common: short rows, so that many fit the model's 512 tokens."""
    rows = json.loads((shared_data / "alpaca" / "alpaca_data.json").read_text(encoding="utf-8"))
    short = [row for row in rows if 0 < len(row["output"]) <= 60 and len(row["instruction"] + row["input"]) <= 60]
    path = tmp_path / "alpaca_short.json"
    path.write_text(json.dumps(short[:ROWS], indent=1), encoding="utf-8")
    settings = {
        "model_name_or_path": shared_data / "models" / "stories260K-hf",
        "data_path": path,
        "validation_size": 30,
        "cache_dir": tmp_path / "cache",
        "max_length": 256,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "learning_rate": 2e-3,
        "logging_steps": 1,
        "eval_steps": 1000,
        "save_steps": 20,
    }
    return [f"--{name}={value}" for name, value in settings.items()]


def run(verb: str, *words: Any, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code = main([verb, *map(str, words), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_full_fine_tuning_learns_resumes_and_answers(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "full"
    first = run("train", *arguments, f"--output_dir={output}", "--max_steps=40", capsys=capsys)
    assert first["eval_loss"] < 0.85 * first["eval_loss_before"]
    assert first["resumed_from"] is None

    again = run("train", *arguments, f"--output_dir={output}", "--max_steps=60", capsys=capsys)
    assert again["resumed_from"] == str(output / "checkpoint-40")
    assert again["steps"] == 60
    losses = [line["loss"] for line in read_metrics(output / "metrics.jsonl") if "loss" in line]
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])

    model = output / "final_model"
    answer = run("chat", f"--model={model}", "--prompt", "What is the capital of France?", capsys=capsys)
    assert answer["finished"] == "stop", answer


def test_lora_merges_into_what_the_adapter_is(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], shared_data: Path
) -> None:
    output = tmp_path / "lora"
    lora = ["--use_lora", "--lora_r=8", "--merged_dir=merged", "--learning_rate=1e-2"]
    words = [word for word in arguments if not word.startswith("--learning_rate")]
    result = run("train", *words, *lora, f"--output_dir={output}", "--max_steps=40", capsys=capsys)
    assert result["eval_loss"] < 0.9 * result["eval_loss_before"]

    merged = run(
        "merge",
        f"--base_model={shared_data / 'models' / 'stories260K-hf'}",
        f"--adapter_path={result['model_path']}",
        f"--output_path={tmp_path / 'merged'}",
        capsys=capsys,
    )
    assert merged["max_logit_difference"] <= 1e-4
    assert merged["top1_agreement"] == 1.0

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    by_run = AutoModelForCausalLM.from_pretrained(result["merged_path"])
    by_verb = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = torch.tensor([tokenizer.encode("Once upon a time")])
    with torch.no_grad():
        torch.testing.assert_close(by_run(ids).logits, by_verb(ids).logits, rtol=0, atol=0)
    assert tokenizer.chat_template, "the template that was trained is saved with the merged model"
