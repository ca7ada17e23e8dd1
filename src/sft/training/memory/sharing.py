"""What one device holds of weights, gradients and states, by the way in which devices share them out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sft.training.memory.states import OptimizerBytes
from sft.training.memory.trace import Traced
from sft.training.strategy import ALONE, AskedStrategy

ZERO_BUCKET = 500_000_000
"""DeepSpeed's own number of elements that it reduces at a time."""

ZERO3_LIVE = 1_000_000_000
"""DeepSpeed's own number of elements that it keeps gathered at a time."""

FSDP_LAYERS_GATHERED = 3
"""The layer that computes, and the one that is fetched meanwhile: as it arrives, and as it is laid out."""

FSDP_GRADIENTS = 2
"""Copies of a layer's gradients: as autograd made them, and laid out to be added up over the processes."""


@dataclass(frozen=True)
class Held:
    """Bytes on one device."""

    weights: int
    gradients: int
    """All that are there at the end of the backward pass."""
    optimizer: int
    step: int
    """While the optimizer takes a step, beside the gradients."""
    copied: int = 0
    """Of gradients once more, in full precision and in one piece, by which a step is taken."""
    buffered: int = 0
    """Of the gradients those that lie in a buffer of their own all the time."""
    sharing: int = 0
    """Buffers for the exchange."""
    gathered: int = 0
    """Of other devices' shares, in forward and backward."""
    host: int = 0
    """In the memory of the machine, where that is not the device's."""
    notes: tuple[str, ...] = ()


def held_by_each(
    traced: Traced, states: OptimizerBytes, strategy: AskedStrategy, *, half: bool, on_accelerator: bool
) -> Held:
    """Each device's part.

    Args:
        traced: with the weights in the precision of the computation, where the engine turns them into it.
        states: of weights in full precision, where the engine keeps such.
        half: the run computes in bfloat16 or float16.
        on_accelerator: tensors lie in a memory of its own, where a buffer takes its place at once.
    """
    whole = Held(traced.weights, traced.gradients, states.states, states.step)
    if strategy.is_deepspeed:
        return _zero(traced, states, strategy, half=half, on_accelerator=on_accelerator)
    if strategy.is_fsdp:
        return _fsdp(traced, states, strategy, half=half)
    if strategy.name == "TP":
        return _tensor_parallel(whole, strategy.mesh.tensor)
    return whole if strategy.name == ALONE else replace(whole, sharing=traced.gradients)  # DDP's buckets


def _zero(traced: Traced, states: OptimizerBytes, strategy: AskedStrategy, *, half: bool, on_accelerator: bool) -> Held:
    """DeepSpeed: shares of a full-precision copy of what is trained, beside weights that each holds or gathers."""
    zero = _zero_section(strategy)
    stage, size = int(strategy.name.removeprefix("ZeRO-")), strategy.num_processes
    wide, trained = (2 if half else 4), sum(weight.elements for weight in traced.trained)
    part = 1 / size if stage else 1.0
    gradients = wide * trained * (part if stage >= 2 else 1)
    states_and_copy = states.states * part + (4 * trained * part if half or stage else 0)
    buffers = traced.gradients
    if stage:
        bucket = _zero_buckets(zero, stage, traced.hidden_size)
        buffers = wide * (bucket if on_accelerator else min(bucket, trained))  # a CPU has no page for what is not used
    gathered = 0
    if stage == 3:
        gathered = wide * min(traced.elements, _number(zero, "stage3_max_live_parameters", ZERO3_LIVE))
    weights = traced.weights * (part if stage == 3 else 1)
    host, notes = 0.0, []
    if "offload_optimizer" in zero:
        host, states_and_copy = states_and_copy, 0.0
        notes.append("optimizer states lie in the memory of the machine")
    if "offload_param" in zero:
        host, weights = host + weights, 0.0
        notes.append("weights lie in the memory of the machine")
    return Held(
        weights=int(weights),
        gradients=int(gradients),
        optimizer=int(states_and_copy),
        step=int(states.step * part),
        copied=int(4 * trained * part if half or stage else 0),
        buffered=int(gradients) if stage >= 2 else 0,
        sharing=int(buffers),
        gathered=int(gathered),
        host=int(host),
        notes=tuple(notes),
    )


def _zero_buckets(zero: Mapping[str, Any], stage: int, hidden_size: int) -> int:
    """Elements of the buckets in which gradients are reduced; "auto" is what transformers makes of it."""
    asked = zero.get("reduce_bucket_size", ZERO_BUCKET)
    bucket = hidden_size**2 if asked == "auto" else _number(zero, "reduce_bucket_size", ZERO_BUCKET)
    return bucket * (2 if zero.get("overlap_comm", stage == 3) else 1)


def _fsdp(traced: Traced, states: OptimizerBytes, strategy: AskedStrategy, *, half: bool) -> Held:
    """Shares of everything, of what is trained in float32; a layer is whole while it computes."""
    mesh = strategy.mesh
    size = max(1, strategy.num_processes // mesh.replicas)
    trained = sum(weight.elements for weight in traced.trained)
    widened = 2 * trained if half else 0  # from half precision, in which they compute
    gathered = min(traced.weights, FSDP_LAYERS_GATHERED * traced.largest_layer + traced.outside)
    of_a_layer = traced.gradients * traced.largest_layer / max(1, traced.weights)
    return Held(
        weights=int((traced.weights + widened) / size),
        gradients=int((traced.gradients + widened) / size),
        optimizer=int(states.states / size),
        step=int(states.step / size),
        gathered=int((gathered + FSDP_GRADIENTS * of_a_layer) / mesh.tensor),
    )


def _tensor_parallel(whole: Held, size: int) -> Held:
    """Layers are parted; norms, which are not, are too small to count."""
    return Held(
        weights=whole.weights // size,
        gradients=whole.gradients // size,
        optimizer=whole.optimizer // size,
        step=whole.step // size,
        notes=("activations are counted as on one device: less, where the layers' insides are parted",),
    )


def _zero_section(strategy: AskedStrategy) -> Mapping[str, Any]:
    values = {} if strategy.deepspeed is None else strategy.deepspeed.values
    zero = values.get("zero_optimization", {})
    return zero if isinstance(zero, Mapping) else {}


def _number(section: Mapping[str, Any], name: str, default: int) -> int:
    value = section.get(name, default)
    return int(value) if isinstance(value, int | float) else default
