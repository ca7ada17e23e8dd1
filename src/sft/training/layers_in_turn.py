"""LISA (https://arxiv.org/abs/2403.17919): a few decoder layers are trained at a time, others are frozen."""

from __future__ import annotations

import random
from typing import Any

from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.models.freezing import decoder_layers
from sft.training.strategy import ALONE, DDP


class LayersInTurn(TrainerCallback):  # type: ignore[misc]
    """Chooses the trained layers anew every ``interval`` steps, as a function of seed and step alone.

    A frozen layer has no gradient, so that no optimizer touches it or what it remembers of it. A resumed run makes the
    choices that the straight one would have.
    """

    def __init__(self, layers: nn.ModuleList, *, count: int, interval: int, seed: int) -> None:
        self.layers = layers
        self.count = count
        self.interval = interval
        self.seed = seed
        self._turn: int | None = None

    def chosen(self, step: int) -> list[int]:
        """Numbers of the layers that are trained at a step, ascending."""
        chance = random.Random(f"{self.seed}:{step // self.interval}")
        return sorted(chance.sample(range(len(self.layers)), self.count))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        turn = state.global_step // self.interval
        if turn == self._turn:
            return
        self._turn = turn
        trained = self.chosen(state.global_step)
        for number, layer in enumerate(self.layers):
            layer.requires_grad_(number in trained)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.layers.requires_grad_(True)


def layers_in_turn(model: PreTrainedModel, config: SFTConfig) -> LayersInTurn | None:
    """The callback a config asks for.

    Raises:
        ModelError: the model keeps no list of its decoder layers.
        ConfigError: it has no more of them than are to be trained at a time.
    """
    if config.lisa_layers is None:
        return None
    name, layers = decoder_layers(model)
    if config.lisa_layers >= len(layers):
        raise ConfigError(
            f"lisa_layers = {config.lisa_layers}, but the model has {len(layers)} decoder layers ({name}), so that "
            "none would ever be frozen. Give fewer, or leave it out."
        )
    return LayersInTurn(layers, count=config.lisa_layers, interval=config.lisa_interval, seed=config.seed)


def refuse_turns_in_pieces(config: SFTConfig, strategy: str) -> None:
    """Raise ConfigError for layers that take turns where weights, gradients or moments are shared out.

    Args:
        strategy: "DDP", "FSDP2", "ZeRO-3", ...
    """
    if config.lisa_layers is not None and strategy not in (ALONE, DDP):
        raise ConfigError(
            f"lisa_layers = {config.lisa_layers} under {strategy}: it shares out gradients of all layers, and those of "
            "frozen ones never come. Use one process or DDP, or train a fixed choice with trainable_layers."
        )
