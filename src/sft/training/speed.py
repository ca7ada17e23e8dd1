"""What a run does to be quicker or to fit, as its options ask: what is recomputed, compiled, and kept."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.config import SFTConfig
from sft.errors import ModelError
from sft.models.attention import compile_around
from sft.models.cpu_products import multiply_quickly
from sft.models.freezing import decoder_layers
from sft.training.cpu_memory import as_it_was, give_back_freed_memory, keep_freed_memory
from sft.training.launch import announce
from sft.training.parallel import trains_on_cpu
from sft.training.strategy import asked_strategy


def apply_speed(model: PreTrainedModel, config: SFTConfig) -> None:
    """Have a model multiply by the quicker library on a CPU, and compile its layers where that is asked for.

    Raises:
        ConfigError: a library is asked for that is not there.
        ModelError: it keeps no list of layers.
    """
    quicken_products(model, config)
    if config.compile_layers:
        stack = layers_of(model, "compile_layers")
        compile_around()
        for layer in stack:
            layer.compile()
        announce(f"compile_layers: {len(stack)} layers are compiled while the first steps run, which takes a while")


def quicken_products(model: PreTrainedModel, config: SFTConfig) -> None:
    """Have a model on a CPU multiply by the library that is asked for, but where no process holds all weights.

    Raises:
        ConfigError: it is not there.
    """
    if trains_on_cpu() and not asked_strategy(config, on_cpu=True).shards_weights:
        multiply_quickly(model, config.cpu_matmul)


def speed_callbacks(model: PreTrainedModel, config: SFTConfig) -> list[TrainerCallback]:
    """What has to happen when training begins.

    Raises:
        ModelError: a layer is chosen that the model does not have, or its layers cannot be recomputed one by one.
    """
    found: list[TrainerCallback] = []
    if trains_on_cpu():
        found.append(KeepMemory() if config.keep_cpu_memory else GiveMemoryBack())
    recomputed = chosen_layers(model, config)
    return found if recomputed is None else [*found, RecomputeChosen(*recomputed)]


def recompute_chosen(model: PreTrainedModel, config: SFTConfig) -> None:
    """Have only the chosen layers recomputed, in a model that was told to recompute all."""
    if (recomputed := chosen_layers(model, config)) is not None:
        switch_layers(*recomputed)


def chosen_layers(model: PreTrainedModel, config: SFTConfig) -> tuple[nn.ModuleList, frozenset[int]] | None:
    """The layers of a model and the numbers of those that are recomputed; None where it is all or none.

    Raises:
        ModelError: a layer is chosen that the model does not have, or its layers cannot be recomputed one by one.
    """
    chosen, every = config.gradient_checkpointing_layers, config.gradient_checkpointing_every
    if config.gradient_checkpointing and (chosen is not None or every > 1):
        asked = "gradient_checkpointing_every" if chosen is None else "gradient_checkpointing_layers"
        stack = layers_of(model, asked)
        numbers = range(0, len(stack), every) if chosen is None else chosen
        return stack, numbers_of_layers(numbers, stack, asked)
    return None


def layers_of(model: PreTrainedModel, asked: str) -> nn.ModuleList:
    """The decoder layers of a model, for the option ``asked``.

    Raises:
        ModelError: it keeps no list of them.
    """
    try:
        return decoder_layers(model)[1]
    except ModelError as error:
        raise ModelError(
            f"{asked}: {type(model).__name__} keeps no list of its decoder layers, so that they cannot be told apart. "
            f"Leave {asked} out."
        ) from error


def numbers_of_layers(numbers: Any, stack: nn.ModuleList, asked: str) -> frozenset[int]:
    """The layers that are recomputed; negative numbers count from the end.

    Raises:
        ModelError: there is no such layer, or the layers have no switch of their own.
    """
    wrong = [number for number in numbers if not -len(stack) <= number < len(stack)]
    if wrong:
        raise ModelError(
            f"{asked} names layer {wrong[0]}, but the model has {len(stack)}, numbered from 0. Correct the number."
        )
    if not hasattr(stack[0], "gradient_checkpointing"):
        raise ModelError(
            f"{asked}: layers of the class {type(stack[0]).__name__} are recomputed all or none. Leave {asked} out."
        )
    return frozenset(number % len(stack) for number in numbers)


class KeepMemory(TrainerCallback):  # type: ignore[misc]
    """Has the C library keep what is freed, from the first step on."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        keep_freed_memory()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        as_it_was()


class GiveMemoryBack(TrainerCallback):  # type: ignore[misc]
    """Has the C library give large blocks back, so that the process holds what is alive and little more."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        give_back_freed_memory()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        as_it_was()


class RecomputeChosen(TrainerCallback):  # type: ignore[misc]
    """Recomputes some layers only, once the Trainer has switched all of them on."""

    def __init__(self, stack: nn.ModuleList, chosen: frozenset[int]) -> None:
        self.stack = stack
        self.chosen = chosen

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        switch_layers(self.stack, self.chosen)


def switch_layers(stack: nn.ModuleList, chosen: frozenset[int]) -> None:
    """Recompute the chosen layers and no others."""
    for number, layer in enumerate(stack):
        layer.gradient_checkpointing = number in chosen  # type: ignore[assignment]
