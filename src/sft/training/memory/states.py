"""What optimizers keep for each weight, and what a step of theirs needs for a moment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sft.training.memory.trace import TrainedWeight

OWN_PRECISION = {
    "adamw_torch": 2, "adamw_torch_fused": 2, "adamw_torch_xla": 2, "adamw_torch_npu_fused": 2, "stable_adamw": 2,
    "schedule_free_adamw": 2, "schedule_free_radam": 2, "schedule_free_sgd": 1, "grokadamw": 3, "adagrad": 1,
    "rmsprop": 1, "sgd": 0, "lomo": 0,
}  # fmt: skip
"""Optimizer -> tensors that it keeps beside each weight, in the weight's own precision."""

BITSANDBYTES = {
    "adamw_bnb_8bit": 2, "adamw_8bit": 2, "ademamix": 3, "ademamix_8bit": 3, "lion_8bit": 1, "lion_32bit": 1,
    "rmsprop_bnb": 1, "rmsprop_bnb_8bit": 1, "rmsprop_bnb_32bit": 1, "paged_adamw_32bit": 2, "paged_adamw_8bit": 2,
    "paged_ademamix_32bit": 3, "paged_ademamix_8bit": 3, "paged_lion_32bit": 1, "paged_lion_8bit": 1,
}  # fmt: skip
"""The same for those of bitsandbytes, in float32 or in 8 bits."""

TORCHAO = {"adamw_torch_8bit": (8, 256), "adamw_torch_4bit": (4, 128)}
"""Bits of torchao's two states, and how many values share a scale."""

WITHOUT_TEMPORARIES = ("adamw_torch_fused", "sgd", "lomo")

LIKE_ADAM = 2
"""States taken for an optimizer that is not known here."""

SMALL = 4096
"""Values below which states are never held in few bits."""

BNB_BLOCK = 256


@dataclass(frozen=True)
class OptimizerBytes:
    """For all trained weights together."""

    states: int
    """Kept from the first step on."""
    step: int
    """Needed beside them while a step is taken."""
    paged: bool
    """The states may leave a GPU for the machine's memory when it is short, and are not counted by PyTorch."""
    is_known: bool


def optimizer_bytes(name: str, weights: Sequence[TrainedWeight], *, on_accelerator: bool) -> OptimizerBytes:
    """States and temporary tensors of an optimizer by transformers' name."""
    states = sum(state_bytes(name, weight) for weight in weights)
    largest = max((4 * weight.elements for weight in weights), default=0)
    all_of_them = sum(weight.bytes for weight in weights)
    known = name in OWN_PRECISION or name in BITSANDBYTES or name in TORCHAO or name == "adafactor"
    return OptimizerBytes(
        states=states,
        step=_temporaries(name, largest, all_of_them, on_accelerator=on_accelerator),
        paged=name.startswith("paged"),
        is_known=known,
    )


def state_bytes(name: str, weight: TrainedWeight) -> int:
    """What an optimizer keeps for one tensor."""
    if name in BITSANDBYTES:
        return _bitsandbytes(name, weight)
    if name in TORCHAO:
        bits, block = TORCHAO[name]
        if weight.elements < SMALL or weight.elements % block:
            return 2 * weight.bytes
        return 2 * (weight.elements * bits // 8 + 4 * (weight.elements // block))
    if name == "adafactor":
        return _adafactor(weight)
    return OWN_PRECISION.get(name, LIKE_ADAM) * weight.bytes


def _bitsandbytes(name: str, weight: TrainedWeight) -> int:
    states = BITSANDBYTES[name]
    is_small = weight.elements < SMALL or weight.is_embedding  # transformers has embeddings kept in 32 bits
    if "8bit" not in name or is_small:
        return states * 4 * weight.elements
    return states * (weight.elements + 4 * math.ceil(weight.elements / BNB_BLOCK))


def _adafactor(weight: TrainedWeight) -> int:
    """Sums over rows and columns in the place of every matrix's second moment, and no first moment."""
    if len(weight.shape) < 2:
        return 4 * weight.elements
    *ahead, rows, columns = weight.shape
    return 4 * math.prod(ahead) * (rows + columns)


def _temporaries(name: str, largest: int, all_of_them: int, *, on_accelerator: bool) -> int:
    """PyTorch goes tensor by tensor on a CPU and over all of them at once on a GPU, unless its kernel is fused."""
    if name in WITHOUT_TEMPORARIES or name in BITSANDBYTES:
        return 0
    if name in OWN_PRECISION and on_accelerator:
        return all_of_them
    return (3 if name == "adafactor" or name in TORCHAO else 2) * largest
