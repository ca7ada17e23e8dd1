"""An evaluation that fails costs itself alone, and whoever looks at the run afterwards is told: everywhere, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft.config import SFTConfig
from sft.report.reading import read_run
from sft.report.verdict import judge
from sft.training.incidents import read_incidents
from sft.training.run import run_training

WHY = "RuntimeError: the server fell over"


@pytest.fixture
def config(tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path) -> SFTConfig:
    row = {"context": "The sea is wide.", "length": 4, "dataset": "hotpotqa", "language": "en", "all_classes": None}
    asked = {**row, "_id": "q", "input": "How wide?", "answers": ["9 miles"]}
    (tmp_path / "hotpotqa.jsonl").write_text(json.dumps(asked) + "\n")
    return SFTConfig(
        model_name_or_path=str(tiny_model_folder),
        data_path=str(alpaca_file),
        output_dir=str(tmp_path / "run"),
        cache_dir=str(tmp_path / "cache"),
        max_steps=2,
        max_length=64,
        save_strategy="no",
        longbench_dir=str(tmp_path),
        eval_tasks=["hotpotqa"],
        eval_steps=2,
        validation_size=5,
        quiet=True,
    )


def test_it_is_said_once_even_under_quiet_and_stands_on_the_page(
    config: SFTConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall_over(*_: Any, **__: Any) -> None:
        raise RuntimeError("the server fell over")

    monkeypatch.setattr("sft.training.evaluation_setup.evaluate_tasks", fall_over)
    folder = Path(config.output_dir)
    folder.mkdir()
    # of a start that was killed in its first step
    (folder / "incidents.jsonl").write_text('{"step": 0, "kind": "evaluation failed", "why": "old"}\n')
    run_training(config)
    printed = capsys.readouterr()
    assert printed.out == ""
    told = [line for line in printed.err.splitlines() if WHY in line]
    assert told == [f"step {step}: the evaluation failed and training goes on: {WHY}" for step in (0, 2)]
    kept = [(line["step"], line["kind"], line["why"]) for line in read_incidents(folder)]
    assert kept == [(0, "evaluation failed", WHY), (2, "evaluation failed", WHY)]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count(f"<td><bdi>{WHY}</bdi></td>") == 2
    verdict = judge(read_run(folder))
    assert "Every evaluation of answers failed" in verdict.sentence
    assert "No task was asked" not in verdict.sentence
