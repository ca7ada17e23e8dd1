"""Training for fewer bits, or in them: what a run of it needs, and what happens to its model."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.config import SFTConfig
from sft.errors import ConfigError, ModelError
from sft.models.qat import refuse_unroundable, round_layers, rounding_of, set_rounding
from sft.models.rounding import Rounding
from sft.training.launch import announce

FLOAT8_CAPABILITY = (8, 9)
"""The first GPUs that multiply 8-bit floats: Ada and Hopper."""


def refuse_fewer_bits(config: SFTConfig) -> None:
    """See, before any data is read, that this machine and the model can do what is asked.

    Raises:
        ConfigError: a library or a GPU is missing, or DeepSpeed holds the weights.
        ModelError: the model's layers cannot be rounded as asked.
    """
    refuse_unroundable(config)
    if config.float8_training:
        require_float8()
    if config.keep_zeros and config.training_arguments.get("deepspeed") is not None:
        raise ConfigError(
            "keep_zeros = true with DeepSpeed: its optimizer keeps the weights once more for itself, where zeros do "
            "not stay. Use DDP or fsdp."
        )


def require_float8() -> None:
    """Raise ConfigError where there is no torchao, or no GPU that multiplies 8-bit floats."""
    if importlib.util.find_spec("torchao") is None:
        raise ConfigError(
            "float8_training = true: the products are torchao's, which is not installed. Install it "
            '(pip install "sft-kit[torchao]"), or leave float8_training out.'
        )
    found = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    if found is None or found < FLOAT8_CAPABILITY:
        here = "there is no CUDA GPU" if found is None else f"{torch.cuda.get_device_name()} has {found[0]}.{found[1]}"
        raise ConfigError(
            "float8_training = true needs a GPU that multiplies 8-bit floats (compute capability 8.9 or more: Ada, "
            f"Hopper, Blackwell), but {here}. Leave it out; bf16 is the next best."
        )


def apply_fewer_bits(model: nn.Module, config: SFTConfig) -> None:
    """Change the layers of a loaded model as the configuration asks, and say so."""
    rounding = rounding_of(config)
    if rounding is not None:
        layers = round_layers(model, rounding)
        announce(f"{rounding.describe()}: {layers} linear layers, in the precision of the run")
    if config.float8_training:
        layers = multiply_in_float8(model)
        announce(f"float8_training: {layers} linear layers multiply in 8-bit floats")


def multiply_in_float8(model: nn.Module, *, emulate: bool = False) -> int:
    """Let linear layers multiply in 8-bit floats, all but the first and the last. Returns how many do.

    Args:
        emulate: round to 8 bits and multiply in full, which needs no such GPU.
    """
    from accelerate.utils import convert_model_to_fp8_ao
    from torchao.float8 import Float8LinearConfig  # an extra
    from torchao.float8.float8_linear import Float8Linear

    # rows of a batch are of any number; the units want multiples of 16
    convert_model_to_fp8_ao(model, config=Float8LinearConfig(pad_inner_dim=True, emulate=emulate))
    return sum(isinstance(module, Float8Linear) for module in model.modules())


def fewer_bits_callbacks(config: SFTConfig) -> list[TrainerCallback]:
    """What has to happen between the steps."""
    rounding = rounding_of(config)
    callbacks: list[TrainerCallback] = []
    if rounding is not None and rounding.start_step > 0:
        callbacks.append(RoundFromStep(rounding))
    return [*callbacks, KeepZeros()] if config.keep_zeros else callbacks


class RoundFromStep(TrainerCallback):  # type: ignore[misc]
    """Begins to round at a step, which a resumed run may have behind it."""

    def __init__(self, rounding: Rounding) -> None:
        self._start = rounding.start_step

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        set_rounding(model, on=state.global_step >= self._start)


class KeepZeros(TrainerCallback):  # type: ignore[misc]
    """Sets the weights that were zero at the beginning to zero after every step."""

    def __init__(self) -> None:
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        head = model.get_output_embeddings()  # where it is the embedding too, the row of the padding token is zero
        layers = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
        weights = [layer.weight for layer in layers]
        masks = [(weight, weight.detach() != 0) for weight in weights if weight.requires_grad]
        counts = [_count(~mask) for _, mask in masks]
        self._kept = [kept for kept, count in zip(masks, counts, strict=True) if count]
        zeros = sum(counts)
        total = sum(weight.numel() for weight in weights)
        if zeros == 0:
            raise ModelError(
                f"keep_zeros = true, but none of the {total:,} weights of linear layers is zero: this model is not "
                "sparse. Name one that is, or leave keep_zeros out."
            )
        announce(f"keep_zeros: {zeros:,} of {total:,} weights of linear layers are zero and stay so")

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        with torch.no_grad():
            for weight, mask in self._kept:
                weight.mul_(mask)


def _count(mask: torch.Tensor) -> int:
    """How many are true, in all shards where FSDP shares the mask's weight out."""
    total: Any = mask.sum()
    return int(total.full_tensor() if hasattr(total, "full_tensor") else total)
