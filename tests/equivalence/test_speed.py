"""What makes a step quicker, or lets it fit, changes nothing of what is learned."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sft.config import SFTConfig
from sft.errors import ModelError
from sft.models import cpu_products
from sft.training.metrics_file import read_metrics
from sft.training.run import assemble, run_training
from sft.training.run import train as finish

LOSS = {"rel": 1e-5}


def assert_same_course(one: Any, other: Any) -> None:
    assert one.losses == pytest.approx(other.losses, **LOSS)
    assert one.gradient_norms == pytest.approx(other.gradient_norms, rel=1e-4)


def test_batches_by_tokens_learn_what_batches_of_rows_learn(train: Callable[..., Any]) -> None:
    # all forty rows in one step: once as one batch of rows, once as batches by tokens
    by_rows = train("rows", per_device_train_batch_size=40, max_steps=3)
    by_tokens = train("tokens", tokens_per_batch=40 * 128, max_steps=3)
    assert_same_course(by_rows, by_tokens)


def test_a_run_of_batches_by_tokens_goes_on_where_it_stood(
    train: Callable[..., Any], read_run: Callable[..., Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    changes = {"tokens_per_batch": 400, "max_steps": 10}
    straight = train("straight", **changes)
    resumed = tmp_path / "resumed"
    shutil.copytree(straight.folder, resumed)
    for path in resumed.glob("checkpoint-*"):
        if int(path.name.split("-")[1]) > 6:
            shutil.rmtree(path)
    shutil.rmtree(resumed / "final_model")
    run_training(SFTConfig(**{**settings, "output_dir": str(resumed), **changes}))
    again = read_run(resumed)
    assert again.losses == straight.losses
    assert all(torch.equal(again.weights[name], straight.weights[name]) for name in straight.weights)


@pytest.mark.skipif(not cpu_products.has_onednn(), reason="this PyTorch was built without oneDNN")
@pytest.mark.parametrize(
    "changes",
    [{}, {"use_lora": True, "packing": True}, {"gradient_checkpointing": True, "packing": True}],
    ids=["all weights", "an adapter", "recomputed layers"],
)
def test_products_of_onednn_learn_what_those_of_pytorch_learn(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(cpu_products, "FEWEST_PRODUCTS", 1)
    runs = {library: train(library, cpu_matmul=library, **changes) for library in ("pytorch", "onednn")}
    assert_same_course(*runs.values())
    records = [json.loads((run.folder / "run.json").read_text()) for run in runs.values()]
    assert [record["kernels"]["products"] for record in records] == ["PyTorch", "oneDNN"]


@pytest.mark.parametrize(
    ("choice", "passes"),
    [
        ({}, [2, 2]),
        ({"gradient_checkpointing_every": 2}, [2, 1]),
        ({"gradient_checkpointing_layers": [-1]}, [1, 2]),
    ],
    ids=["all", "every second", "the last"],
)
def test_chosen_layers_are_recomputed_and_change_nothing(
    train: Callable[..., Any],
    read_run: Callable[..., Any],
    settings: dict[str, Any],
    tmp_path: Path,
    choice: dict[str, Any],
    passes: list[int],
) -> None:
    asked = {"gradient_checkpointing": True, "max_steps": 3, "output_dir": str(tmp_path / "chosen")}
    run = assemble(SFTConfig(**{**settings, **asked, **choice}))
    seen = [0, 0]

    def count(number: int) -> Callable[..., None]:
        def once_more(*_: Any) -> None:
            seen[number] += run.model.training

        return once_more

    for number, layer in enumerate(run.model.model.layers):
        layer.mlp.register_forward_pre_hook(count(number))
    finish(run)
    assert seen == [3 * each for each in passes]
    assert_same_course(train("plain", max_steps=3), read_run(tmp_path / "chosen"))


def test_a_layer_that_is_not_there_is_named(settings: dict[str, Any], tmp_path: Path) -> None:
    asked = {"gradient_checkpointing": True, "gradient_checkpointing_layers": [0, 2], "output_dir": str(tmp_path / "o")}
    with pytest.raises(ModelError, match=r"names layer 2, but the model has 2, numbered from 0"):
        assemble(SFTConfig(**{**settings, **asked}))


def test_figures_of_trained_tokens_are_logged_and_change_nothing(train: Callable[..., Any]) -> None:
    plain = train("plain", max_steps=3)
    watched = train("watched", max_steps=3, log_token_figures=True)
    assert watched.losses == plain.losses
    logged = [line for line in read_metrics(watched.folder / "metrics.jsonl") if "loss" in line]
    assert all(0 < line["entropy"] < math.log(400) for line in logged)  # the model has about 350 tokens to choose from
    assert all(0 <= line["token_accuracy"] < 1 for line in logged)
    assert not any("entropy" in line for line in read_metrics(plain.folder / "metrics.jsonl"))


@pytest.mark.slow  # the compiler reads the layers: half a minute of one core
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of the compiler
def test_compiled_layers_learn_the_same(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the compiler without its last part, which makes machine code."""
    compiled = []
    make = torch.nn.Module.compile

    def without_machine_code(module: torch.nn.Module, **how: Any) -> None:
        compiled.append(module)
        make(module, **how, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", without_machine_code)
    plain = train("plain", max_steps=2, packing=True)
    torch._dynamo.reset()
    found = train("compiled", max_steps=2, packing=True, compile_layers=True)
    assert len(compiled) == 2
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert_same_course(plain, found)
