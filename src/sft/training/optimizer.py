"""LoRA+ (https://arxiv.org/abs/2402.12354): the B matrices of an adapter learn faster than the A matrices."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import Trainer, TrainingArguments

from sft.errors import ConfigError

OWN_GROUPS = ("params", "model", "optimizer_dict")
"""Arguments by which some optimizers (GaLore, LOMO, layer-wise ones) bring their own groups of weights."""


class LoraPlusTrainer(Trainer):  # type: ignore[misc]
    """transformers' Trainer with a learning rate of its own for the B matrices, where one is set."""

    loraplus_lr_ratio: float | None = None
    """B's learning rate as a multiple of A's. None: one rate."""

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """The optimizer that the arguments ask for, over groups with rates of their own.

        Raises:
            ConfigError: it belongs to a package that is not installed.
        """
        try:
            return self._create_optimizer(model)
        except ImportError as error:
            said = " ".join(str(error).split())
            raise ConfigError(
                f"optim = {self.args.optim.value} cannot be had: {said} Or choose one of PyTorch's own, such as "
                "adamw_torch."
            ) from error

    def _create_optimizer(self, model: nn.Module | None) -> Optimizer:
        if self.loraplus_lr_ratio is not None and self.optimizer is None:
            trained = self.model if model is None else model
            kind, kwargs = self.get_optimizer_cls_and_kwargs(self.args, trained)
            refuse_own_groups(kind, kwargs, self.args.optim.value)
            groups = loraplus_groups(
                trained,
                learning_rate=self.args.learning_rate,
                ratio=self.loraplus_lr_ratio,
                weight_decay=self.args.weight_decay,
            )
            self.optimizer_cls_and_kwargs = (kind, {**kwargs, "params": groups})
        made: Optimizer = super().create_optimizer() if model is None else super().create_optimizer(model)
        return made


def refuse_own_groups(kind: Any, kwargs: dict[str, Any], name: str) -> None:
    """Raise ConfigError for an optimizer that decides itself which weights go together."""
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)) or any(key in kwargs for key in OWN_GROUPS):
        raise ConfigError(
            f"loraplus_lr_ratio with optim = {name}: this optimizer groups the weights itself, so that B could get no "
            "rate of its own. Use optim: adamw_torch, or leave loraplus_lr_ratio out."
        )


def loraplus_groups(
    model: nn.Module, *, learning_rate: float, ratio: float, weight_decay: float
) -> list[dict[str, Any]]:
    """The groups of PEFT's own LoRA+ optimizer, without those that are empty.

    LoRA matrices on an embedding learn at 1e-6, the rate that the paper's authors set for them.
    """
    from peft.optimizers import create_loraplus_optimizer  # PEFT takes a second, and only adapters need it

    groups: Any = create_loraplus_optimizer(
        model,
        _only_groups,
        lr=learning_rate,
        loraplus_lr_ratio=ratio,
        loraplus_weight_decay=weight_decay,
    )
    return [group for group in groups if group["params"]]


def refuse_foreign_optimizer(args: TrainingArguments, ratio: float | None) -> None:
    """Raise ConfigError where DeepSpeed's file makes the optimizer, which would give all weights one rate."""
    deepspeed = getattr(args, "hf_deepspeed_config", None)
    if ratio is not None and deepspeed is not None and "optimizer" in deepspeed.config:
        raise ConfigError(
            f"loraplus_lr_ratio = {ratio:g}, but the DeepSpeed file has an optimizer of its own, which knows one "
            "learning rate for all. Take the section optimizer out of that file, or leave loraplus_lr_ratio out."
        )


def _only_groups(groups: list[dict[str, Any]], **kwargs: Any) -> list[dict[str, Any]]:
    return groups
