"""Weights that are shared out over the processes -> whole, on the first one, under their usual names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers.integrations import deepspeed as deepspeed_integration

from sft.models.adapted import is_adapted

ADAPTER_FILE = "adapter_model.safetensors"
MODEL_FILES = "model*.safetensors"


def gather_weights(trainer: Any) -> dict[str, torch.Tensor] | None:
    """All weights on the first process, where an engine holds them; None where the model itself has them all.

    Of a model with an adapter only what is trained is gathered: the rest is the base model's own. Every process calls
    it; what the others get is of no use.
    """
    wrapped, model = trainer.model_wrapped, trainer.accelerator.unwrap_model(trainer.model)
    has_adapter = is_adapted(model)
    if hasattr(wrapped, "zero_optimization_partition_weights"):
        if wrapped.zero_optimization_partition_weights():
            weights = wrapped._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=has_adapter)
        else:
            weights = trainer.accelerator.get_state_dict(wrapped)
    elif holds_shards(model):
        share_out_again(model)
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=has_adapter)
        weights = get_model_state_dict(model, options=options)
    elif trainer.is_fsdp_enabled and wrapped is not model:
        weights = trainer.accelerator.get_state_dict(wrapped)
    else:
        return None
    return without_tied(model, weights or {})


def share_out_again(model: nn.Module) -> None:
    """Put the weights back to the processes that FSDP2 has them from: after a forward pass alone some stay whole.

    An optimizer over weights that are whole for the moment would train copies.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextmanager
def saved_as_whole(model: nn.Module) -> Iterator[None]:
    """Let the first process alone save a model that transformers shared out: its weights were gathered before."""
    config = getattr(model, "config", None)
    kept = getattr(config, "distributed_config", None)
    if kept is None:
        yield
        return
    del config.distributed_config  # type: ignore[union-attr]
    try:
        yield
    finally:
        config.distributed_config = kept  # type: ignore[union-attr]


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
    if is_adapted(model):
        from peft import set_peft_model_state_dict

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


@contextmanager
def whole_while_used(model: nn.Module) -> Iterator[None]:
    """Let a model that ZeRO-3 built in pieces run before it has its engine: a block is whole while it runs.

    All processes run the same. Does nothing for a model that is whole.
    """
    if not any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        yield
        return
    import deepspeed

    with ExitStack() as stack:
        for module, recurse in _parts(model):
            parameters = list(module.parameters(recurse=recurse))
            open_now: list[Any] = []

            def gather(*_: Any, parameters: Any = parameters, open_now: list[Any] = open_now) -> None:
                open_now.append(deepspeed.zero.GatheredParameters(parameters))
                open_now[-1].__enter__()

            def part(*_: Any, open_now: list[Any] = open_now) -> None:
                open_now.pop().__exit__(None, None, None)

            stack.callback(module.register_forward_pre_hook(gather).remove)
            stack.callback(module.register_forward_hook(part, always_call=True).remove)
        yield


def _parts(model: nn.Module) -> Iterator[tuple[nn.Module, bool]]:
    """Modules to gather, and whether with all below them: the blocks of lists, and what has weights outside of any."""
    blocks = {id(child): child for module in model.modules() if isinstance(module, nn.ModuleList) for child in module}
    inside = {id(below) for block in blocks.values() for below in block.modules() if below is not block}
    for module in model.modules():
        if id(module) in inside:
            continue
        is_block = id(module) in blocks
        if is_block or next(module.parameters(recurse=False), None) is not None:
            yield module, is_block
