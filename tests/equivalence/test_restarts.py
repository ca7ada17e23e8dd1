"""ReLoRA: setting aside is PEFT's merge; what is saved fits the original weights; resumed runs are the same."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, get_scheduler

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.export.save import quiet_peft
from sft.models.kept_adapters import set_aside
from sft.training.adapter_restarts import LOWEST, forget, restart_rate, restart_scale
from sft.training.run import assemble
from sft.training.run import train as train_assembled

PROMPT = torch.tensor([[5, 60, 70, 80, 90, 100, 110, 3, 4]])
LORA: dict[str, Any] = {
    "use_lora": True,
    "lora_r": 2,
    "lora_alpha": 4,
    "lora_dropout": 0.1,
    "lr_scheduler_type": "constant",
}
RELORA = LORA | {"relora_steps": 3, "max_steps": 8}


def logits_of(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=PROMPT, use_cache=False).logits.float()  # type: ignore[no-any-return]


def base_of(settings: dict[str, Any]) -> Any:
    return AutoModelForCausalLM.from_pretrained(settings["model_name_or_path"])


@pytest.fixture
def relora(settings: dict[str, Any], tmp_path: Path) -> tuple[Any, Path]:
    """The model of a run of eight steps, with restarts before the fourth and the seventh, and its folder."""
    run = assemble(SFTConfig(**settings | RELORA | {"output_dir": str(tmp_path / "relora")}))
    train_assembled(run)
    return run.model, tmp_path / "relora"


def test_setting_aside_is_a_merge(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", init_lora_weights=False)
    with quiet_peft():
        model = get_peft_model(base_of(settings), config)
    merged = logits_of(copy.deepcopy(model).merge_and_unload())
    set_aside(model, seed=1)
    torch.testing.assert_close(logits_of(model), merged, rtol=0, atol=1e-5)
    matrices = {name: value for name, value in model.named_parameters() if "lora_" in name}
    assert all(not value.any() for name, value in matrices.items() if "lora_B" in name)
    with model.disable_adapter():
        assert not torch.equal(logits_of(model), logits_of(base_of(settings)))  # it stays, whatever is switched off


def test_what_is_saved_fits_the_original_weights(relora: tuple[Any, Path], settings: dict[str, Any]) -> None:
    model, folder = relora
    saved = PeftModel.from_pretrained(base_of(settings), folder / "final_model")
    assert saved.peft_config["default"].r == 6
    torch.testing.assert_close(logits_of(saved), logits_of(model), rtol=0, atol=1e-5)
    deltas = [module.get_delta_weight("default") for module in saved.modules() if hasattr(module, "get_delta_weight")]
    ranks = [int(torch.linalg.matrix_rank(delta, rtol=1e-4)) for delta in deltas]
    assert max(ranks) == 6


def test_a_resumed_run_is_the_straight_run(train: Callable[..., Any]) -> None:
    """Stopped at its end, where the next step sets the second adapter aside, and before anything was set aside."""
    more = RELORA | {"lr_restart_steps": 3, "lr_restart_warmup_steps": 2}
    straight = train("run", **more)
    for stop in (8, 6, 2):
        for step in range(stop + 2, 9, 2):
            shutil.rmtree(straight.folder / f"checkpoint-{step}")
        shutil.rmtree(straight.folder / "final_model")
        again = train("run", **more)
        assert again.losses == straight.losses, stop
        assert again.weights.keys() == straight.weights.keys()
        assert all(torch.equal(again.weights[name], straight.weights[name]) for name in straight.weights), stop


def adam_after_a_step(weight: nn.Parameter) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    optimizer.step()
    return optimizer


def test_the_largest_moments_are_kept_and_always_both() -> None:
    weight = nn.Parameter(torch.zeros(20, 30))
    optimizer = adam_after_a_step(weight)
    before = {name: value.clone() for name, value in optimizer.state[weight].items()}
    forget(optimizer, [weight], method="magnitude", ratio=0.9, seed=0)
    amounts = before["exp_avg"].abs().numpy()
    kept = amounts > np.quantile(amounts, 0.9)
    for name in ("exp_avg", "exp_avg_sq"):
        assert np.array_equal(optimizer.state[weight][name].numpy(), before[name].numpy() * kept)
    assert optimizer.state[weight]["step"] == before["step"]


def test_random_places_and_moments_in_few_bits() -> None:
    weight, small = nn.Parameter(torch.zeros(50, 40)), nn.Parameter(torch.zeros(4, 4))
    optimizer = adam_after_a_step(weight)
    optimizer.state[small] = {"state1": torch.zeros(16, dtype=torch.uint8), "absmax1": torch.ones(1)}
    forget(optimizer, [weight, small], method="random", ratio=0.75, seed=0)
    moments = optimizer.state[weight]
    assert torch.equal(moments["exp_avg"] != 0, moments["exp_avg_sq"] != 0)
    assert float((moments["exp_avg"] != 0).float().mean()) == pytest.approx(0.25, abs=0.04)
    assert small not in optimizer.state


def test_the_rate_falls_and_rises_around_a_restart() -> None:
    def share(part: float) -> float:
        return part * (1 - LOWEST) + LOWEST

    scales = [restart_scale(step, every=10, warm_up=4, anneal=2) for step in range(24)]
    first = [1.0] * 9 + [share(1 / 2)]  # at the step 8 after a beginning it stands two steps before the end: all of it
    later = [share(part) for part in (0, 1 / 4, 1 / 2, 3 / 4, 1, 1, 1, 1, 1, 1 / 2)]
    assert scales == pytest.approx([*first, *later, *later[:4]])


def test_the_schedule_goes_on_beneath_and_others_are_refused() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=20)
    restart_rate(schedule, every=5, warm_up=2, anneal=1, name="linear")
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    scales = [restart_scale(step, every=5, warm_up=2, anneal=1) for step in range(12)]
    assert rates == pytest.approx([2.0 * (1 - step / 20) * scale for step, scale in enumerate(scales)])
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(ConfigError, match="reduce_lr_on_plateau"):
        restart_rate(plateau, every=5, warm_up=2, anneal=1, name="reduce_lr_on_plateau")
