"""The history of a run as a table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sft import SFTConfig, SFTTrainer
from sft.notebook.frame import FIRST, history_frame
from sft.training.metrics_file import read_metrics

pandas = pytest.importorskip("pandas", reason="pandas is not installed")

HISTORY = [
    {"step": 0, "epoch": 0.0, "eval_loss": 5.9, "eval_trained_tokens": 120.0},
    {"step": 2, "epoch": 0.5, "loss": 5.5, "grad_norm": 1.5, "tokens": 300, "trained_tokens": 90, "entropy": 5.1},
    {"step": 2, "epoch": 0.5, "eval_loss": 5.4, "eval_trained_tokens": 120.0},
    {"step": 4, "epoch": 1.0, "loss": float("nan"), "grad_norm": 2, "tokens": 310, "trained_tokens": 80},
    {"step": 4, "epoch": 1.0, "train_runtime": 3.0, "train_loss": 5.2, "total_flos": 9.0},
]


def test_a_step_is_one_row_with_typed_columns() -> None:
    table = history_frame(HISTORY)
    assert list(table["step"]) == [0, 2, 4]
    assert list(table.columns) == [*FIRST, "eval_trained_tokens", "entropy"]
    assert {str(table[name].dtype) for name in ("step", "tokens", "trained_tokens", "eval_trained_tokens")} == {"Int64"}
    assert {str(table[name].dtype) for name in ("epoch", "loss", "eval_loss", "learning_rate")} == {"Float64"}
    assert table["loss"].isna().tolist()[0]
    assert (table["loss"][1], table["eval_loss"][1], table["trained_tokens"].sum()) == (5.5, 5.4, 170)
    assert table["learning_rate"].isna().all()


def test_an_empty_history_has_the_columns() -> None:
    table = SFTTrainer(SFTConfig(model_name_or_path="m", data_path="d.json")).history
    assert (len(table), list(table.columns)) == (0, list(FIRST))


def test_without_pandas_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install pandas.*metrics\.jsonl"):
        history_frame(HISTORY)


def test_the_history_of_a_run_is_what_its_metrics_file_says(
    tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path
) -> None:
    trainer = SFTTrainer(
        SFTConfig(
            model_name_or_path=str(tiny_model_folder),
            data_path=str(alpaca_file),
            validation_size=5,
            output_dir=str(tmp_path / "run"),
            cache_dir=str(tmp_path / "cache"),
            max_steps=3,
            logging_steps=1,
            eval_steps=3,
            save_strategy="no",
            per_device_train_batch_size=2,
        )
    )
    trainer.train()
    table, lines = trainer.history, read_metrics(tmp_path / "run" / "metrics.jsonl")
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    evaluated = {line["step"]: line["eval_loss"] for line in lines if "eval_loss" in line}
    assert dict(zip(table["step"], table["loss"], strict=True)) | {0: None} == {0: None, **losses}
    assert table.set_index("step")["eval_loss"].dropna().to_dict() == evaluated
    assert set(losses) == {1, 2, 3}
    assert set(evaluated) == {0, 3}
    assert (table["tokens"].dropna() >= table["trained_tokens"].dropna()).all()
