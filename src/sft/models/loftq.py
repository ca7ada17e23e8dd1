"""LoftQ (https://arxiv.org/abs/2310.08659), one round of it: an adapter begins as the best guess of what 4 bits lost.

B*A is the closest matrix of the adapter's width to W - Q, where Q is the base weight as it is held in 4 bits. Such an
adapter fits Q alone; over the weights in full it would add the loss once more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers.utils import cached_file

from sft.errors import ModelError

START = "loftq"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@torch.no_grad()
def make_up_for_rounding(adapted: Any, name: str, *, revision: str | None = None) -> int:
    """Set the matrices of every adapted 4-bit layer, in place. Returns how many there are.

    Args:
        adapted: a PEFT model over a base in 4 bits.
        name: folder or hub name of the base model, whose files hold the weights in full.

    Raises:
        ModelError: the files do not hold a weight under its layer's name.
    """
    import bitsandbytes.functional as bits  # an extra, without which there is no such base

    files = WeightFiles(name, revision)
    layers = 0
    for path, module in adapted.base_model.model.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is None or not hasattr(module, "lora_A"):
            continue
        held = bits.dequantize_4bit(module.weight.data, state).float()
        lost = files.read(f"{path}.weight").to(held.device, state.dtype).float() - held
        for adapter in module.lora_A:
            width, scale = module.r[adapter], module.scaling[adapter]
            a, b = closest(lost, width)
            module.lora_A[adapter].weight.copy_(a / scale**0.5)
            module.lora_B[adapter].weight.copy_(b / scale**0.5)
        layers += 1
    return layers


def closest(matrix: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """A (width, in) and B (out, width) whose product is the closest of that rank to a float32 matrix (out, in)."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:width].sqrt()
    return root[:, None] * right[:width], left[:, :width] * root


class WeightFiles:
    """Tensors of a model's safetensors files by name."""

    def __init__(self, name: str, revision: str | None) -> None:
        self._name = name
        self._files: dict[str, Path] = {}
        index = cached_file(name, INDEX, revision=revision, _raise_exceptions_for_missing_entries=False)
        if index is None:
            paths = [cached_file(name, SINGLE, revision=revision)]
        else:
            from transformers.utils.hub import get_checkpoint_shard_files

            paths, _ = get_checkpoint_shard_files(name, index, revision=revision)
        for path in paths:
            with safe_open(path, framework="pt") as file:
                self._files.update(dict.fromkeys(file.keys(), Path(path)))

    def read(self, name: str) -> Tensor:
        """One tensor on the CPU; a file may leave the model's own first name (``model.``) out."""
        short = name.partition(".")[2]
        found = name if name in self._files else short
        if found not in self._files:
            raise ModelError(
                f"init_lora_weights = loftq: the files of {self._name} hold no {name}. This family stores its weights "
                "otherwise than its layers use them. Use init_lora_weights: default."
            )
        with safe_open(self._files[found], framework="pt") as file:
            tensor: Tensor = file.get_tensor(found)
        return tensor
