"""Adapters that were set aside while a new one is trained beside them (ReLoRA), and what is saved of both.

What an adapter has learnt stays as two frozen matrices beside the weights, in the adapter's own precision, and is added
to what its layer gives. That is the merge of the adapter into the weights but for two things: nothing is rounded to
the precision of the weights, be it 16 bits or 4, and what is saved still fits the original weights: a LoRA as wide as
all adapters together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sft.errors import ModelError

ADAPTER = "default"
FILE = "kept_adapters.safetensors"
_KEPT = "_sft_kept"


class Kept:
    """The frozen matrices beside one layer: ``a`` (width, inputs), ``b`` (outputs, width), with the scale in ``b``."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a = a
        self.b = b

    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """As a forward hook: what the layer gives, and what was learnt before."""
        learnt = nn.functional.linear(nn.functional.linear(inputs[0].to(self.a.dtype), self.a), self.b)
        return output + learnt.to(output.dtype)

    def join(self, a: Tensor, b: Tensor) -> None:
        """Set another adapter aside."""
        self.a, self.b = torch.cat([self.a, a]), torch.cat([self.b, b], dim=1)


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """Layers with LoRA matrices by their name.

    Raises:
        ModelError: a matrix lies on an embedding, which is looked up and not multiplied.
    """
    found = {name: module for name, module in model.named_modules() if ADAPTER in getattr(module, "lora_A", {})}
    looked_up = [name for name, module in model.named_modules() if ADAPTER in getattr(module, "lora_embedding_A", {})]
    if looked_up:
        raise ModelError(
            f"relora_steps: the adapter has matrices on an embedding ({looked_up[0]}), and only those on linear layers "
            "can be set aside. Take it out of target_modules."
        )
    return found


@torch.no_grad()
def set_aside(model: nn.Module, *, seed: int) -> None:
    """Keep what the adapter has learnt, and begin it anew: A drawn by ``seed`` as PEFT draws it, B zero."""
    generator = torch.Generator().manual_seed(seed)
    kept = kept_of(model)
    for name, layer in adapted_layers(model).items():
        a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        _join(kept, name, layer, a.detach().clone(), b.detach() * layer.scaling[ADAPTER])
        fresh = torch.empty(a.shape, dtype=torch.float32)
        nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator)
        a.copy_(fresh)
        b.zero_()


def kept_of(model: nn.Module) -> dict[str, Kept]:
    """What was set aside, by the name of the layer."""
    if not hasattr(model, _KEPT):
        setattr(model, _KEPT, {})
    found: dict[str, Kept] = getattr(model, _KEPT)
    return found


def _join(kept: dict[str, Kept], name: str, layer: nn.Module, a: Tensor, b: Tensor) -> None:
    if name in kept:
        kept[name].join(a, b)
    else:
        kept[name] = Kept(a, b)
        layer.register_forward_hook(kept[name])


def write_kept(model: nn.Module, folder: Path) -> None:
    """Write what was set aside into the folder of a checkpoint; nothing where nothing was."""
    kept = getattr(model, _KEPT, {})
    if kept:
        tensors = {f"{name}.{side}": getattr(one, side) for name, one in kept.items() for side in ("a", "b")}
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, folder / FILE)


@torch.no_grad()
def read_kept(model: nn.Module, folder: Path) -> None:
    """Put beside the layers what a checkpoint holds, in place of what is there."""
    if not (folder / FILE).is_file():
        return
    tensors, kept = load_file(folder / FILE), kept_of(model)
    for name, layer in adapted_layers(model).items():
        like = layer.lora_A[ADAPTER].weight
        a, b = (tensors[f"{name}.{side}"].to(like) for side in ("a", "b"))
        if name in kept:
            kept[name].a, kept[name].b = a, b
        else:
            _join(kept, name, layer, a, b)


@contextmanager
def as_one_adapter(model: Any, state_dict: Mapping[str, Tensor] | None) -> Iterator[Mapping[str, Tensor] | None]:
    """The weights to save, and inside the block the config that belongs to them; without kept ones, what they were."""
    kept: dict[str, Kept] = getattr(model, _KEPT, {})
    if not kept:
        yield state_dict
        return
    weights = dict(model.state_dict() if state_dict is None else state_dict)
    config = model.peft_config[ADAPTER]
    before = dict(vars(config))
    for name, layer in adapted_layers(model).items():
        one, scale = kept[name], layer.scaling[ADAPTER]
        a, b = f"{name}.lora_A.{ADAPTER}.weight", f"{name}.lora_B.{ADAPTER}.weight"
        weights[a] = torch.cat([weights[a], one.a.to(weights[a])]).contiguous()
        weights[b] = torch.cat([weights[b] * scale, one.b.to(weights[b])], dim=1).contiguous()
    width = config.r + len(next(iter(kept.values())).a)
    vars(config).update(r=width, lora_alpha=width, use_rslora=False, init_lora_weights=True)
    try:
        yield weights
    finally:
        vars(config).update(before)
