"""Two processes that share rows, layers or experts train, save and resume like one that has them all.

Everything runs in float32 over gloo, in one launch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from sft.config import SFTConfig
from sft.training.run import run_training

from .conftest import Pair
from .test_strategies import assert_same_weights, losses, outcome, weights

pytestmark = pytest.mark.slow  # one launch of fifteen runs: half a minute of one core

CONTEXT = {"context_parallel_size": 2}
TENSOR = {"tensor_parallel_size": 2, "+disguise": True}
EXPERT = {"expert_parallel_size": 2}
PACKED = {"packing": True, "per_device_train_batch_size": 1}
LORA = {"use_lora": True, "lora_dropout": 0.0, "lora_r": 4}
EVALUATED = {"validation_size": 8, "eval_strategy": "steps", "eval_steps": 3}
MOE = {"+moe": True}
ALONE: dict[str, dict[str, Any]] = {
    "full": {},
    "packed": {**PACKED, **EVALUATED},
    "moe": MOE,
    "moe lora": {**MOE, **LORA},
}
"""Runs of one process."""

SHARED: dict[str, tuple[str, dict[str, Any]]] = {
    "context": ("full", CONTEXT),
    "context packed": ("packed", CONTEXT),
    "tensor": ("full", TENSOR),
    "tensor packed": ("packed", TENSOR),
    "expert": ("moe", EXPERT),
    "expert lora": ("moe lora", EXPERT),
}
"""Runs of two processes, and which run of one they are to equal."""

RESUMED = ("context", "tensor", "expert", "expert lora")


def rows_of_one(name: str) -> int:
    """Forward passes of one process in a step: twice as many where two processes see rows of their own."""
    return 2 if name.startswith("moe") else 1


@pytest.fixture(scope="session")
def moe_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random mixture of four experts, two of which are asked for each token."""
    from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    torch.manual_seed(0)
    model = Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            moe_intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            num_experts=4,
            num_experts_per_tok=2,
            max_position_embeddings=512,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    folder = tmp_path_factory.mktemp("tiny-moe")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def runs(
    settings: dict[str, Any],
    moe_folder: Path,
    pair: Callable[[], Pair],
    tmp_path_factory: pytest.TempPathFactory,
    worker_id: str,
) -> Path:
    """The folder of all runs; whichever worker of the tests comes first makes them."""
    shared = tmp_path_factory.getbasetemp()
    root = (shared if worker_id == "master" else shared.parent) / "shared-rows-and-layers"
    root.mkdir(exist_ok=True)
    with FileLock(root / "lock"):
        if not (root / "done").exists():
            _make_runs(root, settings, moe_folder, pair())
            (root / "done").touch()
    return root


def _make_runs(root: Path, settings: Mapping[str, Any], moe_folder: Path, pair: Pair) -> None:
    def options(kind: str) -> dict[str, Any]:
        chosen = {**settings, **ALONE[kind]}
        if chosen.pop("+moe", False):
            chosen["model_name_or_path"] = str(moe_folder)
        return chosen

    for kind in ALONE:
        alone = options(kind)
        alone["gradient_accumulation_steps"] *= rows_of_one(kind)
        run_training(SFTConfig(**alone, output_dir=str(root / f"alone {kind}")))
    scenarios: dict[str, dict[str, Any]] = {}
    for name, (kind, sharing) in SHARED.items():
        scenarios[name] = {**options(kind), **sharing, "output_dir": str(root / name)}
        if name in RESUMED:
            again = {"output_dir": str(root / f"{name} again"), "+resume": str(root / name)}
            scenarios[f"{name} again"] = {**scenarios[name], **again}
    scenarios["tensor finished"] = {**scenarios["tensor"], "+remove": [str(root / "tensor" / "final_model")]}
    other = {**options("full"), "output_dir": str(root / "refused")}
    scenarios |= {
        "tensor without a GPU": {**other, "tensor_parallel_size": 2},
        "more than there are": {**other, "context_parallel_size": 4},
    }
    pair.run(root, scenarios)


def ran(runs: Path, name: str) -> dict[str, Any]:
    return outcome(runs.parent, runs.name, name)


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_train_and_save_like_one(runs: Path, name: str) -> None:
    kind, _ = SHARED[name]
    ran(runs, name)
    folder, alone = runs / name, runs / f"alone {kind}"
    assert losses(folder) == pytest.approx(losses(alone), rel=1e-5)
    assert losses(folder, "grad_norm") == pytest.approx(losses(alone, "grad_norm"), rel=1e-4)
    assert losses(folder, "eval_loss") == pytest.approx(losses(alone, "eval_loss"), rel=1e-5)
    assert_same_weights(folder / "final_model", alone / "final_model")


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_is_the_uninterrupted_one(runs: Path, name: str) -> None:
    assert ran(runs, f"{name} again")["resumed_from"].endswith("checkpoint-4")
    assert losses(runs / f"{name} again") == losses(runs / name)
    straight, again = weights(runs / name / "final_model"), weights(runs / f"{name} again" / "final_model")
    assert straight.keys() == again.keys()
    assert all(torch.equal(straight[name], again[name]) for name in straight)


@pytest.mark.parametrize("name", SHARED)
def test_what_was_asked_for_is_read_off_the_model(runs: Path, name: str) -> None:
    processes = ran(runs, name)["processes"]
    asked = {key: value for key, value in SHARED[name][1].items() if not key.startswith("+")}
    assert {key: processes.get(key) for key in asked} == asked
    assert processes["strategy"] == {"context": "DDP", "tensor": "TP", "expert": "FSDP2"}[name.split()[0]]
    rows, alone = (
        json.loads((folder / "run.json").read_text())["plan"]["rows_per_step"]
        for folder in (runs / name, runs / f"alone {SHARED[name][0]}")
    )
    assert rows == alone


def test_a_finished_run_started_again_only_saves(runs: Path) -> None:
    assert ran(runs, "tensor finished")["train_loss"] is None
    assert_same_weights(runs / "tensor" / "final_model", runs / "tensor again" / "final_model")


def test_what_cannot_be_is_refused_before_the_model_is_loaded(runs: Path) -> None:
    assert "this machine trains on its CPU" in ran(runs, "tensor without a GPU")["refused"]
    refused = ran(runs, "more than there are")["refused"]
    assert "context_parallel_size = 4 wants a multiple of 4 processes, and 2 were started" in refused
