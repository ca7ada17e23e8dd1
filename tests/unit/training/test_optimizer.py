"""LoRA+: which weights learn at which rate, as PEFT's own optimizer has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from torch.optim import AdamW
from transformers import AutoTokenizer, PreTrainedModel, TrainingArguments

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.training.build_model import build_model
from sft.training.optimizer import LoraPlusTrainer, refuse_foreign_optimizer

# PEFT's advice on tied embeddings, and its use of a deprecated name; a run leaves both out
pytestmark = [
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


@pytest.fixture
def model(tiny_model_folder: Path) -> PreTrainedModel:
    config = SFTConfig(
        model_name_or_path=str(tiny_model_folder),
        use_lora=True,
        use_dora=True,
        target_modules=["q_proj", "embed_tokens"],
        modules_to_save=["norm"],
    )
    return build_model(config, AutoTokenizer.from_pretrained(tiny_model_folder))


def trainer_of(model: PreTrainedModel, folder: Path, ratio: float | None, **changes: Any) -> LoraPlusTrainer:
    given = {
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "adam_beta2": 0.98,
        "use_cpu": True,
        "report_to": [],
        **changes,
    }
    trainer = LoraPlusTrainer(model=model, args=TrainingArguments(output_dir=str(folder), **given))
    trainer.loraplus_lr_ratio = ratio
    return trainer


def rates(optimizer: torch.optim.Optimizer) -> dict[int, tuple[float, float]]:
    """Learning rate and decay of every weight, by identity."""
    return {
        id(weight): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for weight in group["params"]
    }


def test_rates_are_those_of_peft(model: PreTrainedModel, tmp_path: Path) -> None:
    found = trainer_of(model, tmp_path, 16).create_optimizer()
    theirs = create_loraplus_optimizer(model, AdamW, lr=1e-3, loraplus_lr_ratio=16, loraplus_weight_decay=0.1)
    assert rates(found) == rates(theirs)
    assert found.defaults["betas"] == (0.9, 0.98), "the other options of the optimizer stay"
    named = {name: rates(found)[id(weight)] for name, weight in model.named_parameters() if weight.requires_grad}
    assert {rate for name, (rate, _) in named.items() if "lora_A" in name} == {1e-3}
    assert {rate for name, (rate, _) in named.items() if "lora_B" in name} == {16e-3}
    assert {rate for name, (rate, _) in named.items() if "lora_embedding" in name} == {1e-6}


def test_without_a_ratio_the_optimizer_is_the_usual_one(model: PreTrainedModel, tmp_path: Path) -> None:
    assert {group["lr"] for group in trainer_of(model, tmp_path, None).create_optimizer().param_groups} == {1e-3}


def test_optimizers_that_group_by_themselves_are_refused(model: PreTrainedModel, tmp_path: Path) -> None:
    trainer = trainer_of(model, tmp_path, 16, optim="adafactor")
    assert len({group["lr"] for group in trainer.create_optimizer().param_groups}) == 3
    trainer = trainer_of(model, tmp_path, 16)
    trainer.get_optimizer_cls_and_kwargs = lambda *args: (AdamW, {"optimizer_dict": {}})  # as the layer-wise ones do
    with pytest.raises(ConfigError, match="loraplus_lr_ratio with optim = adamw_torch"):
        trainer.create_optimizer()


def test_an_optimizer_of_deepspeed_is_refused() -> None:
    arguments: Any = type("Arguments", (), {})()
    arguments.hf_deepspeed_config = type("File", (), {"config": {"optimizer": {"type": "AdamW"}}})
    refuse_foreign_optimizer(arguments, None)
    with pytest.raises(ConfigError, match="section optimizer"):
        refuse_foreign_optimizer(arguments, 16)
    arguments.hf_deepspeed_config.config = {"zero_optimization": {}}
    refuse_foreign_optimizer(arguments, 16)


def test_an_optimizer_whose_package_is_not_there_is_a_mistake_of_the_config(
    model: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.trainer_optimizer.is_torchao_available", lambda *_: False)
    with pytest.raises(ConfigError, match=r"optim = adamw_torch_8bit cannot be had: .*torchao.* adamw_torch\."):
        trainer_of(model, tmp_path, None, optim="adamw_torch_8bit").create_optimizer()
