"""An adapter that cannot learn stops the run and is named; one that is only late does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from sft.errors import ModelError
from sft.training.dead_adapters import EXPERT_PATIENCE, PATIENCE, DeadAdapters, adapters_of


class Mixture(nn.Module):
    """Two layers that are called, one whose weight alone is read, one that is unused, experts of which one is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.bypassed, self.unused = (nn.Linear(4, 4) for _ in range(4))
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        self.lonely_experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, x: Tensor, expert: int = 0, factor: float = 1.0) -> Tensor:
        x = self.down(self.up(x)) + self.experts[expert](x)
        return factor * (x @ self.bypassed.weight.T).sum()


def adapted(*targets: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return get_peft_model(Mixture(), LoraConfig(r=2, target_modules=list(targets), **options))


@pytest.fixture
def step(tmp_path: Path) -> Callable[..., None]:
    """One optimizer step under the callback, as the Trainer calls it."""
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    state, control = TrainerState(max_steps=1000), TrainerControl()
    begun: set[int] = set()

    def one(check: DeadAdapters, model: nn.Module, *, last: bool = False, **inputs: Any) -> None:
        if id(check) not in begun:
            check.on_train_begin(args, state, control, model=model)
            begun.add(id(check))
        model.zero_grad()
        state.max_steps = state.global_step + 1 if last else 1000
        model(torch.ones(1, 4), **inputs).backward()
        check.on_pre_optimizer_step(args, state, control, model=model)
        state.global_step += 1
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad

    return one


@pytest.mark.parametrize("start", [True, "gaussian", "orthogonal", "pissa", "olora"])
def test_a_layer_that_is_never_called_is_named_at_the_first_step(step: Callable[..., None], start: bool | str) -> None:
    model, check = adapted("up", "down", "bypassed", init_lora_weights=start), DeadAdapters(["up", "down", "bypassed"])
    with pytest.raises(ModelError, match=r"bypassed cannot learn: after 1 step .*--target_modules up down\.$"):
        step(check, model)


def test_what_learns_is_looked_at_no_more(step: Callable[..., None]) -> None:
    model, check = adapted("up", "down"), DeadAdapters()
    step(check, model)
    assert check.watches == []
    assert all(not parameter._backward_hooks for parameter in model.parameters())


def test_a_gradient_may_be_zero_for_a_while(step: Callable[..., None]) -> None:
    model, check = adapted("up"), DeadAdapters()
    for _ in range(PATIENCE - 1):
        step(check, model, factor=0.0)
    step(check, model)
    assert check.watches == []


@pytest.mark.parametrize("steps", [PATIENCE, 2])
def test_a_gradient_that_stays_zero_is_an_error_and_also_at_the_last_step(
    step: Callable[..., None], steps: int
) -> None:
    model, check = adapted("up"), DeadAdapters("all-linear")
    for _ in range(steps - 1):
        step(check, model, factor=0.0)
    with pytest.raises(ModelError, match=rf"after {steps} steps .*\(up\).*--exclude_modules up"):
        step(check, model, factor=0.0, last=steps < PATIENCE)


def test_an_expert_that_is_not_asked_is_not_dead(step: Callable[..., None]) -> None:
    model, check = adapted("experts.0", "experts.1", "experts.2"), DeadAdapters()
    for number in range(EXPERT_PATIENCE):
        step(check, model, expert=number % 2)
    assert check.watches == []


def test_experts_of_which_none_ever_learns_are_dead(step: Callable[..., None]) -> None:
    model, check = adapted("up", "lonely_experts.0", "lonely_experts.1"), DeadAdapters()
    for _ in range(EXPERT_PATIENCE - 1):
        step(check, model)
    with pytest.raises(ModelError, match=rf"after {EXPERT_PATIENCE} steps .*lonely_experts\.0, lonely_experts\.1"):
        step(check, model)


def test_layers_saved_whole_are_watched_too(step: Callable[..., None]) -> None:
    model = adapted("up", modules_to_save=["bypassed", "unused"])
    assert set(adapters_of(model)) == {"up", "bypassed", "unused"}
    with pytest.raises(ModelError, match=r"of 1 of them .*\(unused\)"):
        step(DeadAdapters(), model)


def test_gradients_that_no_hook_saw_count(step: Callable[..., None]) -> None:
    """FSDP puts them into place itself."""
    model, check = adapted("up"), DeadAdapters()
    args: Any = type("Arguments", (), {"device": torch.device("cpu")})
    check.on_train_begin(args, TrainerState(), TrainerControl(), model=model)
    for watch in check.watches:
        watch.parameters[1].grad = torch.ones_like(watch.parameters[1])
    check.on_pre_optimizer_step(args, TrainerState(max_steps=9), TrainerControl(), model=model)
    assert check.watches == []
