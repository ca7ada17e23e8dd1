"""The adapted model without the base model's weights: every layer on the meta device, the adapter's tensors real.

What PEFT does with each kind of adapter (ranks by layer, rsLoRA, DoRA, tokens, layers saved whole) is PEFT's own code
on such a layer, once the layer has been given its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from sft.export.adapter import WEIGHTS_NAME, Adapter
from sft.export.fit import PREFIX
from sft.export.save import quiet_peft
from sft.export.weight_names import NameMap, map_names

PEFT_PARTS = frozenset({"base_layer", "original_module", "token_adapter"})
"""What PEFT puts between the name of a layer and the names of its own weights."""


@dataclass(frozen=True)
class Skeleton:
    """The layers of a base model with an adapter on some of them."""

    model: Any
    """The adapted transformers model (inside the PeftModel)."""

    units: dict[str, nn.Module]
    """Layers that the adapter changes, as PEFT wrapped them, by their name in the base model."""

    shapes: dict[str, tuple[int, ...]]
    """Weights (and saved buffers) of the base model, resized as the adapter was trained."""

    parameters: frozenset[str]
    """Those of them that are parameters."""

    ties: dict[str, str]
    """Weight -> the weight it is one with."""

    held: dict[str, Tensor]
    """Weights of the base model that the adapter holds anew: of resized embeddings, and biases trained with it."""

    names: NameMap
    """Where each of the others lies on disk."""

    embedding: str
    """Name of the input embedding's weight."""

    head: str
    """Name of the output head's weight."""


def build_skeleton(
    adapter: Adapter, base_config: Any, stored: list[str], *, rows: int | None, trust_remote_code: bool
) -> Skeleton:
    """Build the model on the meta device, put the adapter on it and load the adapter's tensors, as float32.

    Args:
        adapter: checked against the base model.
        base_config: of the base model; changed where rows are added.
        stored: names of the base model's tensors on disk.
        rows: rows of the embedding the adapter was trained with, where they are not the base model's own.
        trust_remote_code: build a model class that the base model brings along.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            base_config, trust_remote_code=trust_remote_code, dtype=torch.float32
        ).eval()
    names = map_names(model, stored)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    parameters = frozenset(name for name, _ in model.named_parameters(remove_duplicate=False))
    layers = {id(module): name for name, module in model.named_modules()}
    embedding, head = (layers.get(id(one)) for one in (model.get_input_embeddings(), model.get_output_embeddings()))
    ties = _ties(model)
    with quiet_peft():
        adapted = get_peft_model(model, PeftConfig.from_pretrained(str(adapter.path))).eval()
        held = _load_adapter(adapted, adapter, shapes)
    return Skeleton(
        model=model,
        units=dict(_units(model)),
        shapes=shapes,
        parameters=parameters,
        ties=ties,
        held=held,
        names=names,
        embedding=f"{embedding}.weight",
        head=f"{head}.weight",
    )


def own_name(name: str) -> str:
    """The base model's name of a weight inside a layer that PEFT wrapped."""
    return ".".join(part for part in name.split(".") if part not in PEFT_PARTS)


def _load_adapter(adapted: Any, adapter: Adapter, shapes: Mapping[str, object]) -> dict[str, Tensor]:
    """Give the adapter's layers their tensors; weights that two layers share stay shared.

    A tensor that the file lacks stays not-a-number, which PEFT's merge refuses.

    Returns:
        Weights of the base model that the adapter's file holds.
    """
    tensors = {name: tensor.float() for name, tensor in load_file(adapter.path / WEIGHTS_NAME).items()}
    real: dict[int, nn.Parameter] = {}
    held: dict[str, Tensor] = {}
    for path, module in adapted.named_modules():
        for name, parameter in module._parameters.items():
            full = f"{path}.{name}"
            own = own_name(full.removeprefix(PREFIX))
            if parameter is not None and own not in shapes:
                module._parameters[name] = real.setdefault(id(parameter), _blank(parameter.shape))
            elif parameter is not None and full in tensors:
                held[own] = tensors.pop(full)
    set_peft_model_state_dict(adapted, tensors)
    return held


def _blank(shape: torch.Size) -> nn.Parameter:
    return nn.Parameter(torch.full(shape, torch.nan), requires_grad=False)


def _units(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The outermost layers that PEFT made its own."""
    for name, child in module.named_children():
        if isinstance(child, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            yield prefix + name, child
        else:
            yield from _units(child, f"{prefix}{name}.")


def _ties(model: nn.Module) -> dict[str, str]:
    first: dict[int, str] = {}
    ties = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            ties[name] = first[id(parameter)]
        else:
            first[id(parameter)] = name
    return ties
