"""What an adapter was trained over when its base was held in few bits, and how far a merge is from that.

A merge uses the base model's weights in full, which are better weights; but the adapter learnt over the rounded ones.
How often both find the same token likeliest is measured and told. A merge into the rounded weights, written out in
full, is the trained model itself.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from sft.errors import ExportError
from sft.export.adapter import Adapter
from sft.export.checkpoint import Checkpoint
from sft.export.save import quiet_peft
from sft.export.skeleton import Skeleton, own_name
from sft.models.families import read_past_the_layer
from sft.models.load import load_model
from sft.models.precision import DTYPES
from sft.models.quantization import Quantization, read_quantization

BASE_WEIGHTS = ("full", "rounded")
"""What an adapter is merged into: the base model's weights in full, or as they were held in training."""


def choose_rounding(adapter: Adapter, base_weights: str) -> Quantization | None:
    """How the base model's weights are rounded before the merge; None: not at all.

    An adapter that makes up for the rounding (LoftQ) is merged into rounded weights whatever is asked.

    Raises:
        ExportError: they are to be rounded, and the adapter does not say how.
    """
    if base_weights not in BASE_WEIGHTS:
        raise ExportError(f"base_weights is {base_weights!r}. Choose among {', '.join(BASE_WEIGHTS)}.")
    quantization = read_quantization(adapter.path)
    if base_weights == "full" and not (quantization is not None and quantization.matched):
        return None
    if quantization is None:
        raise ExportError(
            f"base_weights is 'rounded', but the adapter {adapter.name!r} does not say that it was trained over a "
            "quantised base (sft train records it beside the adapter). Leave base_weights out."
        )
    return quantization


def rounding_note(adapter: Adapter, rounding: Quantization | None) -> list[str]:
    """What a user should know who merges an adapter that was trained over a quantised base."""
    trained_over = read_quantization(adapter.path)
    if trained_over is None or trained_over == rounding:
        return []
    note = f"the adapter was trained over weights in {trained_over.bits} bits, and is merged into the weights in full"
    if not can_round(trained_over):
        return [f"{note}; how often both answer the same is not known, because bitsandbytes is not installed"]
    return [f"{note}; --base_weights rounded keeps the rounded ones"]


def can_round(quantization: Quantization) -> bool:
    """Whether ``as_quantised`` works here."""
    return quantization.bits == 8 or importlib.util.find_spec("bitsandbytes") is not None


@dataclass(frozen=True)
class RoundedCheckpoint(Checkpoint):
    """A base model's files, read as a quantised model holds their weights."""

    quantization: Quantization
    names: frozenset[str]
    """Tensors that are rounded."""

    def read(self, name: str) -> Tensor:
        """One tensor; a rounded one is float32, which holds the rounded values as they are."""
        tensor = super().read(name)
        return as_quantised(tensor.float(), self.quantization) if name in self.names else tensor


def rounded_checkpoint(files: Checkpoint, skeleton: Skeleton, quantization: Quantization) -> RoundedCheckpoint:
    """The files of a base model with the linear layers, but for the head, as they were held in training."""
    linear = {f"{own_name(name)}.weight" for name, _ in _held_in_few_bits(skeleton.model)}
    sources = skeleton.names.sources
    names = frozenset(sources[key] for key in linear - {skeleton.head} if key in sources)
    return RoundedCheckpoint(files.tensors, quantization, names)


def round_linear_layers(model: Any, quantization: Quantization) -> None:
    """Replace the weights that a quantised model would hold in few bits by what it computes with."""
    head = model.get_output_embeddings()
    inside = () if head is None else tuple(map(id, head.modules()))  # an adapter may be around it
    for _, module in _held_in_few_bits(model):
        if id(module) not in inside:
            module.weight.data = as_quantised(module.weight.data, quantization)


def as_quantised(weight: Tensor, quantization: Quantization) -> Tensor:
    """A float32 weight (out, in) after rounding.

    Raises:
        ModelError: bitsandbytes, which rounds to 4 bits, is not installed.
    """
    if quantization.rounded_from is not None:
        weight = weight.to(DTYPES[quantization.rounded_from]).float()
    if quantization.bits == 8:
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
        return (weight / scale).round() * scale
    quantization.require_library()
    import bitsandbytes.functional as bits  # an extra, which merges of other adapters do without

    codes, state = bits.quantize_4bit(
        weight.contiguous(), compress_statistics=quantization.double, quant_type=quantization.kind
    )
    rounded: Tensor = bits.dequantize_4bit(codes, state)
    return rounded


def load_over_quantised(
    adapter: Adapter,
    base_model: str,
    quantization: Quantization,
    *,
    rows: int | None = None,
    dtype: torch.dtype | str = torch.float32,
    **source: Any,
) -> PeftModel:
    """The adapter on a base held in few bits, ready to answer, on this process's device."""
    model = load_model(base_model, dtype=dtype, quantization=quantization, **source)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    with quiet_peft():
        return PeftModel.from_pretrained(model, str(adapter.path)).eval()


def _held_in_few_bits(model: Any) -> Iterator[tuple[str, nn.Linear]]:
    """Linear layers as ``load_model`` has them quantised, and the head."""
    whole = read_past_the_layer(model.config)
    for name, module in model.named_modules():
        last = own_name(name).rpartition(".")[2]
        if isinstance(module, nn.Linear) and "lora_" not in name and last not in whole:
            yield name, module
