"""DDP, FSDP2, ZeRO-2 and ZeRO-3 in two processes train, save and resume like one process.

Everything runs in float32 over gloo. All scenarios are trained in one launch and resumed in a second one, which has
nothing of the first but its files.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from sft.config import SFTConfig
from sft.training.metrics_file import read_metrics
from sft.training.out_of_memory import fewer_at_a_time
from sft.training.run import run_training

from .conftest import Pair
from .fsdp_on_cpu import missing_names

pytestmark = pytest.mark.slow  # two launches of ten scenarios each: half a minute of both cores

LACKING = {
    "FSDP2": f"accelerate has no longer: {', '.join(missing_names())}" if missing_names() else None,
    "ZeRO": None if importlib.util.find_spec("deepspeed") else "deepspeed is not installed",
}
"""Why a strategy cannot be tried here."""


def zero(stage: int) -> dict[str, Any]:
    """A DeepSpeed file as users have them, with thresholds so low that a tiny model is sharded, too."""
    small = {"stage3_param_persistence_threshold": 0, "stage3_prefetch_bucket_size": 0} if stage == 3 else {}
    auto = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {
        "deepspeed": {
            **dict.fromkeys(auto, "auto"),
            "bf16": {"enabled": "auto"},
            "zero_optimization": {"stage": stage, "reduce_bucket_size": "auto", **small},
        }
    }


STRATEGIES: dict[str, dict[str, Any]] = {
    "DDP": {},
    "FSDP2": {"fsdp": "full_shard auto_wrap", "fsdp_config": {"fsdp_version": 2}, "+disguise": True},
    "ZeRO-2": zero(2),
    "ZeRO-3": zero(3),
}
KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"use_lora": True, "lora_dropout": 0.0, "merged_dir": "merged"},
    "packed": {
        "packing": True,
        "per_device_train_batch_size": 1,
        "gradient_checkpointing": True,
        "validation_size": 8,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "save_strategy": "no",
    },
}
FACES = {"DDP": "DistributedDataParallel", "FSDP2": "FSDPQwen3ForCausalLM", "ZeRO": "DeepSpeedEngine"}
"""What is around the model."""

RESUMED = ("full", "lora")
FINISHED = ("FSDP2 full", "ZeRO-3 lora")
SMALLER = ("FSDP2 full", "ZeRO-2 full", "ZeRO-3 lora")
"""Gone on with as the message of a run says that had no more memory: half the rows at a time, twice as often."""
TRAINED = [f"{strategy} {kind}" for strategy in STRATEGIES for kind in RESUMED] + ["FSDP2 packed", "ZeRO-3 packed"]
TRAINED_IN_HEAD = sum(name.startswith(("FSDP2", "ZeRO-3")) for name in TRAINED)
STOP = 4


def why_not(strategy: str) -> str | None:
    return LACKING.get(strategy) or LACKING.get(strategy.partition("-")[0])


@pytest.fixture(scope="session")
def runs(
    settings: dict[str, Any],
    pair: Callable[[], Pair],
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
) -> Path:
    """The folder of all runs; whichever worker of the tests comes first makes them."""
    shared = tmp_path_factory.getbasetemp()
    root = (shared if worker_id == "master" else shared.parent) / "strategies"
    root.mkdir(exist_ok=True)
    with FileLock(root / "lock"):
        if not (root / "done").exists():
            _make_runs(root, settings, pair())
            (root / "done").touch()
    return root


def _make_runs(root: Path, settings: Mapping[str, Any], pair: Pair) -> None:
    for kind, options in KINDS.items():
        twice = 2 * settings["gradient_accumulation_steps"]
        alone = {**settings, **options, "gradient_accumulation_steps": twice, "output_dir": str(root / f"alone {kind}")}
        run_training(SFTConfig(**alone))
    scenarios = {
        f"{strategy} {kind}": {
            **settings,
            **STRATEGIES[strategy],
            **KINDS[kind],
            "output_dir": str(root / f"{strategy} {kind}"),
        }
        for strategy, kind in map(str.split, TRAINED)
        if not why_not(strategy)
    }
    other = {**settings, "output_dir": str(root / "refused")}
    refused = {
        "FSDP without a GPU": {**other, "fsdp": "full_shard"},
        "unlike": {**other, "+rank 1": {"learning_rate": 2e-3, "cache_dir": settings["cache_dir"] + "-of-rank-1"}},
    }
    (root / "first").mkdir()
    pair.run(root / "first", {**scenarios, **refused})
    again = {}
    for name, options in scenarios.items():
        if name.split()[-1] in RESUMED:
            folder = Path(options["output_dir"])
            straight = folder.rename(folder.with_name(f"{folder.name} straight"))
            shutil.copytree(straight, folder, ignore=shutil.ignore_patterns("checkpoint-6", "final_model", "merged"))
            again[name] = {**options, "merged_dir": None}
        if name in FINISHED:
            again[f"{name} finished"] = {**options, "merged_dir": None, "+remove": [str(folder / "final_model")]}
        if name in SMALLER:
            smaller = {**options, "merged_dir": None, "output_dir": f"{options['output_dir']} smaller"}
            rows, slices = options["per_device_train_batch_size"], options["gradient_accumulation_steps"]
            fewer = fewer_at_a_time(rows, slices)
            assert fewer is not None
            smaller["per_device_train_batch_size"], smaller["gradient_accumulation_steps"] = fewer
            again[f"{name} smaller"] = {**smaller, "+resume": str(straight)}
    (root / "second").mkdir()
    pair.run(root / "second", again)


def outcome(runs: Path, launch_name: str, scenario: str) -> dict[str, Any]:
    """What a scenario came to."""
    found: dict[str, Any] = json.loads((runs / launch_name / f"{scenario}.json").read_text())
    assert "error" not in found, found["error"]
    return found


def losses(folder: Path, name: str = "loss") -> list[float]:
    return [line[name] for line in read_metrics(folder / "metrics.jsonl") if name in line]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: weight for file in sorted(folder.glob("*.safetensors")) for name, weight in load_file(file).items()}


def assert_same_weights(one: Path, other: Path) -> None:
    """Observed: 3e-6 at most, with Adam and a learning rate of 1e-3."""
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def skip_unless_tried(strategy: str) -> None:
    if reason := why_not(strategy):
        pytest.skip(f"{strategy} is not tried: {reason}")


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> str:
    """A strategy that can be tried here."""
    skip_unless_tried(request.param)
    return str(request.param)


@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_train_and_save_like_one(runs: Path, name: str) -> None:
    strategy, kind = name.split()
    skip_unless_tried(strategy)
    folder, alone = runs / f"{strategy} {kind}", runs / f"alone {kind}"
    if kind in RESUMED:
        folder = folder.with_name(f"{folder.name} straight")
    assert losses(folder) == pytest.approx(losses(alone), rel=1e-5)
    assert losses(folder, "grad_norm") == pytest.approx(losses(alone, "grad_norm"), rel=1e-4)
    assert losses(folder, "eval_loss") == pytest.approx(losses(alone, "eval_loss"), rel=1e-5)
    assert_same_weights(folder / "final_model", alone / "final_model")
    if kind == "lora":
        assert_same_weights(folder / "merged", alone / "merged")


@pytest.mark.parametrize("kind", RESUMED)
def test_what_was_asked_for_ran_and_is_recorded(runs: Path, strategy: str, kind: str) -> None:
    processes = outcome(runs, "first", f"{strategy} {kind}")["processes"]
    assert (processes["strategy"], processes["num_processes"], processes["backend"]) == (strategy, 2, "gloo")
    face = FACES[strategy.partition("-")[0]]
    assert processes["wrapper"] == (face if kind != "lora" else face.replace("Qwen3For", "PeftModelFor"))
    assert processes["whole_share"] == (0 if strategy in ("FSDP2", "ZeRO-3") else 1)
    said = (runs / "first" / "output.txt").read_text()
    assert f"2 processes over gloo on cpu, as asked: {strategy}, " in said
    assert "the model makes the logits" not in said
    runs_of_it = TRAINED_IN_HEAD if not (why_not("FSDP2") or why_not("ZeRO-3")) else 0
    assert said.count("loss: in one pass, while the model calls its head") >= runs_of_it


@pytest.mark.parametrize("kind", RESUMED)
def test_a_resumed_run_is_the_uninterrupted_one(runs: Path, strategy: str, kind: str) -> None:
    name = f"{strategy} {kind}"
    assert outcome(runs, "second", name)["resumed_from"].endswith(f"checkpoint-{STOP}")
    assert losses(runs / name) == losses(runs / f"{name} straight")
    straight, again = weights(runs / f"{name} straight" / "final_model"), weights(runs / name / "final_model")
    assert straight.keys() == again.keys()
    assert all(torch.equal(straight[name], again[name]) for name in straight)


@pytest.mark.parametrize("name", SMALLER)
def test_a_run_without_memory_goes_on_with_fewer_rows_at_a_time(runs: Path, name: str) -> None:
    """No option is changed by name: the same rows make a step. Sums are taken in other groups."""
    skip_unless_tried(name.split()[0])
    folder, straight = runs / f"{name} smaller", runs / f"{name} straight"
    assert outcome(runs, "second", f"{name} smaller")["resumed_from"].endswith(f"checkpoint-{STOP}")
    assert losses(folder) == pytest.approx(losses(straight), rel=1e-5)
    assert_same_weights(folder / "final_model", straight / "final_model")


@pytest.mark.parametrize("name", FINISHED)
def test_a_finished_run_started_again_only_saves(runs: Path, name: str) -> None:
    skip_unless_tried(name.split()[0])
    found = outcome(runs, "second", f"{name} finished")
    assert (found["train_loss"], found["steps"]) == (None, 6)
    assert_same_weights(runs / name / "final_model", runs / f"{name} straight" / "final_model")


def test_fsdp_without_a_gpu_is_refused_where_accelerate_would_do_something_else(runs: Path) -> None:
    assert "would run DDP instead without a word" in outcome(runs, "first", "FSDP without a GPU")["refused"]


def test_processes_that_were_told_different_things_are_refused(runs: Path) -> None:
    refused = outcome(runs, "first", "unlike")["refused"]
    assert "learning_rate: rank 1 has 0.002, rank 0 has 0.001" in refused
    assert "cache_dir" not in refused
