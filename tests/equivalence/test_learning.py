"""Other ways to learn: losses are those of torch.distributions, layers that take turns stand still in between."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.training.dataset import SFTDataset
from sft.training.head_loss import LogitForm, cross_entropy
from sft.training.run import assemble, run_training
from sft.training.run import train as train_assembled
from sft.training.token_weights import EntropyWeight, token_weight


def entropy_adaptive(logits: Tensor, targets: Tensor, *, alpha: float, top_k: int, divisor: float) -> Tensor:
    """The losses of the paper's method, with the entropy that torch.distributions computes."""
    with torch.no_grad():
        entropy = Categorical(logits=logits.topk(top_k, dim=-1).values).entropy()
    return nn.functional.cross_entropy(logits, targets, reduction="none") * (entropy / divisor) ** alpha


@pytest.mark.parametrize("form", [LogitForm(), LogitForm(scale=0.5, cap=3.0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_and_gradients_in_one_pass(form: LogitForm, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sft.training.head_loss.FEWEST_POSITIONS", 8)
    monkeypatch.setattr("sft.training.head_loss.BUFFER_BYTES", {"cpu": 1})
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(16, 50)
    hidden = torch.randn(30, 16, generator=generator, requires_grad=True)
    targets = torch.randint(50, (30,), generator=generator)
    weights = torch.rand(30, generator=generator) if weighted else None
    settings: dict[str, Any] = {"alpha": 1.5, "top_k": 7, "divisor": 2.0}

    expected = entropy_adaptive(form(head(hidden)), targets, **settings)
    (expected if weights is None else expected * weights).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [hidden.grad, head.weight.grad, head.bias.grad]
    hidden.grad = None
    head.zero_grad()
    loss = cross_entropy(hidden, head, targets, weights=weights, form=form, weigh=EntropyWeight(**settings))
    loss.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, (expected if weights is None else expected * weights).sum())
    for found, wanted in zip([hidden.grad, head.weight.grad, head.bias.grad], gradients, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_sure_prediction_counts_nothing_and_a_doubtful_one_all() -> None:
    weigh = token_weight(SFTConfig(eaft_alpha=1, eaft_top_k=5))
    assert weigh is not None
    sure = torch.full((1, 9), -1e4)
    sure[0, 2] = 1e4
    assert weigh(torch.cat([sure, torch.zeros(1, 9)])).tolist() == pytest.approx([0.0, 1.0])
    assert token_weight(SFTConfig()) is None


def first_loss(settings: dict[str, Any], **how: float) -> float:
    """Of the untrained model over all rows, by transformers' logits."""
    model = AutoModelForCausalLM.from_pretrained(settings["model_name_or_path"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(settings["model_name_or_path"])
    rows = SFTDataset(settings["data_path"], tokenizer, max_length=128, cache_dir=settings["cache_dir"])
    losses = []
    for row in rows:
        with torch.no_grad():
            logits = model(input_ids=row["input_ids"][None]).logits[0, :-1]
        trained = row["labels"][1:] != -100
        losses.append(entropy_adaptive(logits[trained], row["labels"][1:][trained], **how))  # type: ignore[arg-type]
    return float(torch.cat(losses).mean())


@pytest.mark.parametrize("lora_on_head", [False, True])
def test_a_run_takes_that_loss_on_both_ways_to_it(
    train: Callable[..., Any], settings: dict[str, Any], lora_on_head: bool
) -> None:
    """With an adapter on the head, the model makes its logits; without, they exist for a moment only."""
    how: dict[str, Any] = {"eaft_alpha": 2.0, "eaft_top_k": 10}
    if lora_on_head:
        how |= {"use_lora": True, "lora_dropout": 0.0, "target_modules": ["q_proj", "lm_head"]}
    whole = {"per_device_train_batch_size": 40, "max_steps": 2, "learning_rate": 1e-12}
    expected = first_loss(settings, alpha=2.0, top_k=10, divisor=math.log(10))
    assert train("run", **whole, **how).losses == pytest.approx([expected] * 2, rel=1e-5)


def test_evaluation_counts_every_token_as_it_is(settings: dict[str, Any], tmp_path: Path) -> None:
    more = {"validation_size": 10, "max_steps": 1, "eval_strategy": "epoch"}
    losses = [
        run_training(SFTConfig(**settings | more | {"output_dir": str(tmp_path / name), **how})).eval_loss_before
        for name, how in (("plain", {}), ("eaft", {"eaft_alpha": 1.0}))
    ]
    assert losses[0] == losses[1]


class Moved(TrainerCallback):  # type: ignore[misc]
    """Which decoder layers each step has moved, and whether embedding and norm did."""

    def __init__(self) -> None:
        self.layers: list[list[int]] = []
        self.rest: list[bool] = []
        self._before: dict[str, Tensor] = {}

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._before = {name: value.detach().clone() for name, value in kwargs["model"].named_parameters()}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = dict(kwargs["model"].named_parameters())
        moved = {name for name, value in self._before.items() if not torch.equal(value, now[name])}
        self.layers.append(sorted({int(name.split(".")[2]) for name in moved if ".layers." in name}))
        self.rest.append({"model.embed_tokens.weight", "model.norm.weight"} <= moved)


LISA = {"lisa_layers": 1, "lisa_interval": 2, "weight_decay": 0.1, "max_steps": 10}


def test_layers_take_turns_and_frozen_ones_stand_still(settings: dict[str, Any], tmp_path: Path) -> None:
    moved = Moved()
    config = SFTConfig(**settings | LISA | {"output_dir": str(tmp_path / "run")})
    train_assembled(assemble(config, callbacks=[moved]))
    turns = moved.layers[::2]
    assert moved.layers == [layers for layers in turns for _ in range(2)]
    assert {len(layers) for layers in turns} == {1}
    assert {number for layers in turns for number in layers} == {0, 1}
    assert all(moved.rest)


def test_a_resumed_run_makes_the_same_choices(train: Callable[..., Any]) -> None:
    """Stopped where other layers are chosen, and between."""
    changes = {**LISA, "lisa_interval": 3, "max_steps": 8}
    straight = train("run", **changes)
    for stop in (6, 4):
        for step in range(stop + 2, 9, 2):
            shutil.rmtree(straight.folder / f"checkpoint-{step}")
        shutil.rmtree(straight.folder / "final_model")
        again = train("run", **changes)
        assert again.losses == straight.losses, stop
        assert all(torch.equal(again.weights[name], straight.weights[name]) for name in straight.weights), stop


def test_more_layers_than_there_are(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 decoder layers"):
        run_training(SFTConfig(**settings | {"output_dir": str(tmp_path / "run"), "lisa_layers": 2}))
