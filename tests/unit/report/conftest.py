"""Run folders for pages: one written by hand, with all that a run can leave behind, and one that was trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MODEL = "maker/small-model"
STEPS = 40


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def metrics(steps: int = STEPS) -> list[dict[str, Any]]:
    """An evaluation at step 0 and every ten steps, a training line every step."""
    lines: list[dict[str, Any]] = [
        {"step": 0, "epoch": 0, "time": 1795373283.7, "eval_loss": 5.928102300942016, "eval_trained_tokens": 2489.0}
    ]
    for step in range(1, steps + 1):
        line = {"step": step, "epoch": step / 20, "time": 1795373283.7 + step, "loss": 3.0 / step + 0.001 * (step % 3)}
        lines.append({**line, "grad_norm": 1.0 + step % 5, "learning_rate": 1e-3 * (1 - step / steps)})
        lines[-1].update(tokens_per_second=11000.5 + step, memory_gib=0.5)
        if step % 10 == 0:
            lines.append({"step": step, "eval_loss": 5.9 - 0.1 * step / 10, "eval_trained_tokens": 2489.0})
    return lines


def task_results(score: float, accuracy: float) -> dict[str, Any]:
    qmsum = {
        "dataset": "qmsum/longbench",
        "num_samples": 2,
        "num_available": 200,
        "rougeL": score,
        "rouge1": score + 0.01,
    }
    truthful = {"dataset": "truthfulqa", "num_samples": 2, "accuracy": accuracy, "avg_max_score": accuracy / 2}
    return {
        "qmsum": {**qmsum, "main_metric": "rougeL", "main_score": score, "scorer": "rouge_score, stemmed"},
        "truthfulqa": {**truthful, "main_metric": "accuracy", "main_score": accuracy, "scorer": "rougeL"},
    }


def history(scores: dict[int, tuple[float, float]]) -> dict[str, Any]:
    """``eval_history.json`` with (rougeL, accuracy) by step."""
    entries = [
        {
            "step": step,
            "timestamp": "2026-11-22T11:47:56",
            "combined_score": rouge + accuracy * 1.5,
            "results": task_results(rouge, accuracy),
        }
        for step, (rouge, accuracy) in scores.items()
    ]
    return {"best_step": None, "best_score": None, "best_trained_step": None, "history": entries}


def predictions(folder: Path, step: int, answers: dict[str, tuple[str, float]]) -> None:
    rows = [
        {"id": name, "prediction": text, "reference": f"the reference of {name}", "score": score}
        for name, (text, score) in answers.items()
    ]
    write_lines(folder / f"eval_step_{step}" / f"maker_small-model_step{step}_qmsum_temp0.0_predictions.jsonl", rows)


def record(**changes: Any) -> dict[str, Any]:
    plan = {
        **{
            "stage": "sft",
            "rows": 100,
            "conversations": 97,
            "examples": 90,
            "rejected": {"empty answer": 2, "no role": 1},
        },
        **{"dropped": {"longer than max_length 64": 7}, "dropped_tokens": {"longer than max_length 64": 700}},
        **{"overlapping": {}, "contaminated": False, "duplicates": 0, "cut": 5, "cut_tokens": 60, "split": 0},
        **{"tokens": 5000, "trained_tokens": 1250, "rendered_tokens": 5760, "packs": 20, "packing_efficiency": 0.9375},
        **{"tokens_left_out": 11, "batches": None, "rows_per_step": 4, "steps_per_epoch": 20, "steps": STEPS},
        **{"lengths": {"shortest": 20, "median": 50, "p95": 60, "longest": 64}, "formats": {"a.jsonl": "messages"}},
        **{"notes": [], "generation_kwargs": {}, "evaluation": None},
    }
    config = {
        "model_name_or_path": {"value": MODEL, "origin": "run.yaml:1"},
        "learning_rate": {"value": 0.001, "origin": "--learning_rate"},
        "packing": {"value": True, "origin": "run.yaml:2"},
        "use_lora": {"value": True, "origin": "run.yaml:3"},
        "max_length": {"value": 64, "origin": "run.yaml:4"},
        "seed": {"value": 42, "origin": "default"},
    }
    result = {"model_path": "out/final_model", "merged_path": None, "steps": STEPS, "train_loss": 0.6527280833784703}
    result.update(eval_loss_before=5.928102300942016, eval_loss=5.5, seconds=172.696, resumed_from=None)
    whole = {
        **{"config": config, "plan": plan, "result": result, "method": "LoRA", "notes": []},
        **{"versions": {"python": "3.11.7", "torch": "2.13.0"}, "fingerprints": {"data": "019eac", "order": "random"}},
        **{"device": {"type": "cpu", "name": "x86_64", "threads": 2}, "processes": {"num_processes": 1}},
        **{"kernels": {"attention": "sdpa"}, "parameters": {"trainable": 4096, "total": 33920}},
        **{"memory": {"run_measured_bytes": 152223744}, "allowed_changes": []},
        **{"command": {"words": ["/x/bin/python", "/x/bin/sft", "train", "run.yaml"], "folder": "/home/me"}},
        "starts": [{"step": 0, "time": "2026-11-22T10:00:00+00:00"}, {"step": 20, "time": "2026-11-22T11:00:00+00:00"}],
    }
    return {**whole, **changes}


SUMMARY = {
    "examples_counted": 90,
    "lengths": [{"begins": 20, "ends": 41, "examples": 30}, {"begins": 42, "ends": 64, "examples": 60}],
    "sources": [{"path": "a.jsonl", "examples": 90, "tokens": 5000, "trained_tokens": 1250}],
    "more_sources": 0,
    "looked_at": 90,
    "examples": [
        {
            **{"why": "the shortest", "source": "a.jsonl:7", "turn": None, "tokens": 20, "trained_tokens": 3},
            "segments": [["user: hello ", False], ["good day", True]],
        }
    ],
}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run folder; the best step is 20, the last 40 is worse."""

    def make(name: str = "run", **changes: Any) -> Path:
        folder = tmp_path / name
        write_json(folder / "run.json", record(**changes))
        write_json(folder / "data_summary.json", SUMMARY)
        write_json(folder / "eval_history.json", history({0: (0.1, 0.25), 20: (0.4, 0.5), 40: (0.3, 0.5)}))
        write_lines(folder / "metrics.jsonl", metrics())
        spike = {"step": 31, "kind": "spike", "loss": 0.9, "grad_norm": 7.5, "num_rows": 3, "rows": ["a.jsonl:1"]}
        write_lines(folder / "incidents.jsonl", [spike])
        write_json(folder / "checkpoint-20" / "manifest.json", {"files": {"a": {"size": 3_000_000}}, "step": 20})
        predictions(folder, 0, {"q1": ("the old words", 0.1), "q2": ("nothing", 0.3)})
        predictions(folder, 20, {"q1": ("the new words", 0.9), "q2": ("something", 0.2)})
        predictions(folder, 40, {"q1": ("the last words", 0.5), "q2": ("nothing", 0.3)})
        asked = [{"task": "qmsum", "id": "q1", "question": "What was said?"}]
        write_lines(folder / "eval_questions.jsonl", asked)
        return folder

    return make


@pytest.fixture(scope="session")
def trained_run(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight steps with packed rows, a held-out part and checkpoints."""
    from sft.config import SFTConfig
    from sft.training.run import run_training

    folder = tmp_path_factory.mktemp("trained")
    rows = [
        {"instruction": f"Count to {number}", "input": "", "output": " ".join(map(str, range(1, number % 9 + 2)))}
        for number in range(1, 41)
    ]
    (folder / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    config = SFTConfig(
        model_name_or_path=str(tiny_model_folder),
        data_path=str(folder / "rows.json"),
        output_dir=str(folder / "run"),
        cache_dir=str(folder / "cache"),
        validation_size=0.2,
        max_length=64,
        packing=True,
        max_steps=8,
        per_device_train_batch_size=1,
        learning_rate=0.01,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=4,
        save_steps=4,
    )
    run_training(config)
    return folder / "run"
