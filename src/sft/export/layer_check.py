"""Does one merged layer answer as the layer with its adapter did? The question a merge can be asked layer by layer."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from sft.errors import ExportError
from sft.export.verify import RELATIVE_BOUNDS

NUM_PROBES = 8
"""Random inputs per layer."""

EXPERT_INPUTS = {"hidden_states", "top_k_index", "top_k_weights"}
"""What the experts of a mixture are called with in transformers."""

FLOAT32_NOISE = 1e-4
"""Largest difference of a layer's answers in float32, as a share of the largest; seen 1e-7 to 2e-6."""


@dataclass(frozen=True)
class LayerDifference:
    """How far a merged layer's answers are from the adapter's on the same random inputs."""

    layer: str
    difference: float
    """Largest absolute difference of any output."""

    largest: float
    """Largest absolute output."""

    @property
    def relative(self) -> float:
        """The difference as a share of the largest output."""
        return self.difference / self.largest if self.largest else self.difference

    def check(self, dtype: torch.dtype) -> None:
        """Hold it to the bound for weights of this precision.

        Raises:
            ExportError: further than that.
        """
        bound = max(FLOAT32_NOISE, RELATIVE_BOUNDS[dtype])
        if not self.relative <= bound:
            raise ExportError(
                f"The merged model does not equal the adapter: layer {self.layer} answers random inputs with a "
                f"difference of {self.relative:.2g} of the largest output, allowed is {bound:.2g} for weights in "
                f"{str(dtype).removeprefix('torch.')}. Nothing was saved. The adapter may be damaged, or of a kind "
                "that has no merged form."
            )


@torch.no_grad()
def compare_layers(layer: str, adapted: Tensor, merged: Tensor) -> LayerDifference:
    """Two answers to the same inputs."""
    return LayerDifference(layer, (adapted - merged).abs().max().item(), adapted.abs().max().item())


def probe_of(unit: nn.Module) -> tuple[Tensor, ...] | None:
    """Random inputs for a layer; None for kinds whose inputs are not known here (they are compared as tensors)."""
    plain = plain_layer(unit)
    if any(buffer.device.type == "meta" for buffer in plain.buffers()):
        return None  # it computes with more than weights
    generator = torch.Generator().manual_seed(0)
    if isinstance(plain, nn.Embedding):
        return (torch.randint(0, plain.num_embeddings, (NUM_PROBES * 16,), generator=generator),)
    if isinstance(plain, (nn.Linear, Conv1D)):
        inputs = plain.in_features if isinstance(plain, nn.Linear) else plain.weight.shape[0]
        return (torch.randn(NUM_PROBES, int(inputs), generator=generator),)
    takes = inspect.signature(plain.forward).parameters.keys()
    if takes >= EXPERT_INPUTS and hasattr(plain, "num_experts") and hasattr(plain, "hidden_dim"):
        return _probe_of_experts(plain, generator)
    return None


def _probe_of_experts(plain: Any, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Every expert of a mixture is asked; two share each input."""
    experts = int(plain.num_experts)
    rows = max(NUM_PROBES, experts)
    chosen = torch.arange(rows)[:, None] + torch.arange(min(2, experts))
    hidden = torch.randn(rows, int(plain.hidden_dim), generator=generator)
    return hidden, chosen % experts, torch.rand(chosen.shape, generator=generator)


def plain_layer(unit: nn.Module) -> nn.Module:
    """The base model's layer inside what PEFT made of it."""
    inner: Any = unit
    while isinstance(inner, (AuxiliaryTrainingWrapper, BaseTunerLayer)):
        inner = inner.original_module if isinstance(inner, AuxiliaryTrainingWrapper) else inner.get_base_layer()
    return inner  # type: ignore[no-any-return]
