"""Weights that are shared out over the processes -> whole, on the first one, under their usual names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from transformers.integrations import deepspeed as deepspeed_integration

ADAPTER_FILE = "adapter_model.safetensors"
MODEL_FILES = "model*.safetensors"


def gather_weights(trainer: Any) -> dict[str, torch.Tensor] | None:
    """All weights on the first process, where an engine holds them; None where the model itself has them all.

    Of a model with an adapter only what is trained is gathered: the rest is the base model's own. Every process calls
    it; what the others get is of no use.
    """
    wrapped, model = trainer.model_wrapped, trainer.accelerator.unwrap_model(trainer.model)
    has_adapter = isinstance(model, PeftModel)
    if hasattr(wrapped, "zero_optimization_partition_weights"):
        if wrapped.zero_optimization_partition_weights():
            weights = wrapped._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=has_adapter)
        else:
            weights = trainer.accelerator.get_state_dict(wrapped)
    elif holds_shards(model):
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=has_adapter)
        weights = get_model_state_dict(model, options=options)
    elif trainer.is_fsdp_enabled and wrapped is not model:
        weights = trainer.accelerator.get_state_dict(wrapped)
    else:
        return None
    return without_tied(model, weights or {})


def holds_shards(model: nn.Module) -> bool:
    """Whether FSDP2 has shared out the weights of this very model; it wraps none around it."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def without_tied(model: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Leave out what a loader of this model ties to another weight anyway (``lm_head``), where it still equals it."""
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    copies = {name for name, of in tied.items() if name in weights and of in weights}
    return {
        name: weight
        for name, weight in weights.items()
        if name not in copies or not torch.equal(weight, weights[tied[name]])
    }


def read_weights(model: nn.Module, checkpoint: Path) -> None:
    """Put the weights of a checkpoint, or of its adapter, into a model that is whole in this process."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_file(checkpoint / ADAPTER_FILE))
        return
    for file in sorted(checkpoint.glob(MODEL_FILES)):
        model.load_state_dict(load_file(file), strict=False)


@contextmanager
def loading_whole_models() -> Iterator[None]:
    """Let this process load a model by itself. While ZeRO-3 is known to transformers, all would have to load it."""
    known = deepspeed_integration._hf_deepspeed_config_weak_ref
    deepspeed_integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed_integration._hf_deepspeed_config_weak_ref = known
