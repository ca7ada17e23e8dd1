"""The two ways of a merge: layer by layer from file to file, or the whole model in memory, each with its check."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sft.errors import ExportError
from sft.export.adapted import check_vocabulary, generation_config_of, load_adapted
from sft.export.checkpoint import open_checkpoint, weight_files
from sft.export.generation_config import read_generation_config
from sft.export.in_memory import cast_weights, merge_weights
from sft.export.memory import PeakMemory, available_memory
from sft.export.merge_request import MergeTask
from sft.export.merge_result import describe_bytes
from sft.export.quantised import can_round, round_linear_layers, rounded_checkpoint
from sft.export.save import is_tied, set_tied
from sft.export.streamed import CannotStreamError, StreamedMerge, plan_streamed_merge
from sft.export.verify import Agreement, check_agreement, compare_logits, compute_logits
from sft.export.written_check import WrittenCheck, check_written
from sft.models.load import load_model
from sft.models.quantization import Quantization

HEADROOM = 1.15
"""What loading a model and running it takes beside its weights and the kept logits, as a factor."""


@dataclass(frozen=True)
class Merged:
    """What stands in the folder before it counts."""

    agreement: Agreement | None
    bound: float | None
    layers: WrittenCheck | None
    differences: tuple[float, ...]
    """Of each layer as it was merged, as a share of its largest output."""
    tied: bool
    peak_memory: int | None
    as_trained: Agreement | None = None
    """With the adapter over the base as it was held in training, where that was in few bits."""


def write_merged(task: MergeTask, folder: Path, check: str, notes: list[str]) -> Merged:
    """Write the merged weights and configs into a folder and verify them."""
    try:
        plan = plan_streamed_merge(
            task.adapter, task.base_model, task.base_config, rows=task.rows, dtype=task.dtype, **task.source
        )
    except CannotStreamError as reason:
        _refuse_too_large(task, reason)
        notes.append(f"merged with the whole model in memory, because {reason}")
        return _merge_in_memory(task, folder)
    if task.rounding is not None:
        plan.checkpoint = rounded_checkpoint(plan.checkpoint, plan.skeleton, task.rounding)
    check_vocabulary(task.adapter, task.tokenizer, plan.skeleton.model)
    by_logits = check != "layers" and (check == "logits" or _fits(task, plan, notes))
    reference = _reference(task, task.rounding) if by_logits else None
    with PeakMemory() as memory:
        tied = plan.write(folder, task.max_shard_bytes)
    _save_configs(task, plan, folder, tied=tied)
    differences = tuple(found.relative for found in plan.differences)
    if reference is None:
        layers = check_written(plan, folder, tied=tied)
        return Merged(None, None, layers, differences, tied, memory.rise)
    del plan
    agreement, bound, as_trained = _verify(task, reference, folder)
    return Merged(agreement, bound, None, differences, tied, memory.rise, as_trained)


def _refuse_too_large(task: MergeTask, reason: CannotStreamError) -> None:
    """Refuse a model that cannot be held in memory, before the system ends the process for it."""
    stored = open_checkpoint(weight_files(task.base_model, task.source["revision"])).tensors.values()
    needed = sum(4 * torch.Size(tensor.shape).numel() for tensor in stored)
    free = available_memory()
    if free is not None and needed > free:
        raise ExportError(
            f"The base model {task.base_model!r} must be merged as a whole, because {reason}. In float32 it takes "
            f"{describe_bytes(needed)} of memory, and {describe_bytes(free)} are free. Merge on a larger machine."
        )


def _merge_in_memory(task: MergeTask, folder: Path) -> Merged:
    model = _adapted(task, task.rounding)
    check_vocabulary(task.adapter, task.tokenizer, model)
    reference = compute_logits(model, task.prompts)
    with PeakMemory() as memory:
        model = merge_weights(model)
        if task.dtype != torch.float32:
            check_agreement(reference, compute_logits(model, task.prompts), torch.float32, max_difference=None)
            cast_weights(model, task.dtype)
        model.generation_config = generation_config_of(model, task.adapter, task.tokenizer)
        tied = is_tied(model)
        model.save_pretrained(folder, max_shard_size=task.max_shard_bytes)
    del model
    agreement, bound, as_trained = _verify(task, reference, folder)
    return Merged(agreement, bound, None, (), tied, memory.rise, as_trained)


def _adapted(task: MergeTask, rounding: Quantization | None) -> Any:
    """The base model with the adapter on it, in float32."""
    model = load_adapted(task.adapter, task.base_model, rows=task.rows, **task.source)
    if rounding is not None:
        round_linear_layers(model, rounding)
    return model


def _reference(task: MergeTask, rounding: Quantization | None) -> list[Tensor]:
    """Logits of the base model with the adapter on it."""
    model = _adapted(task, rounding)
    reference = compute_logits(model, task.prompts)
    del model
    gc.collect()  # the written model is loaded later; two do not always fit
    return reference


def _verify(task: MergeTask, reference: Sequence[Tensor], folder: Path) -> tuple[Agreement, float, Agreement | None]:
    """Load what was written, and compare its logits: with the adapter's, and with the adapter's as it was trained."""
    gc.collect()
    written = load_model(str(folder), dtype=torch.float32, trust_remote_code=task.source["trust_remote_code"])
    logits = compute_logits(written, task.prompts)
    agreement, bound = check_agreement(reference, logits, task.dtype, max_difference=task.max_difference)
    trained_over = task.trained_over
    if trained_over is None or not can_round(trained_over):
        return agreement, bound, None
    if trained_over == task.rounding:
        return agreement, bound, agreement
    del written
    return agreement, bound, compare_logits(_reference(task, trained_over), logits)


def _fits(task: MergeTask, plan: StreamedMerge, notes: list[str]) -> bool:
    """Whether base model and adapter fit into memory in float32, one model at a time, with the logits that are kept."""
    free = available_memory()
    vocabulary = plan.skeleton.shapes[plan.skeleton.embedding][0]
    logits = 2 * 4 * vocabulary * sum(map(len, task.prompts))
    needed = int(HEADROOM * 4 * plan.num_parameters) + logits
    if free is None or needed <= free:
        return True
    notes.append(
        f"logits were not compared: that takes the model in float32, about {describe_bytes(needed)}, and "
        f"{describe_bytes(free)} are free; the layers were compared one by one instead"
    )
    return False


def _save_configs(task: MergeTask, plan: StreamedMerge, folder: Path, *, tied: bool) -> None:
    """config.json and generation_config.json, as transformers writes them beside weights."""
    model = plan.skeleton.model
    set_tied(model, tied=tied)
    model.config.dtype = str(task.dtype).removeprefix("torch.")
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.generation_config = read_generation_config(task.base_model, task.source["revision"])
    generation_config_of(model, task.adapter, task.tokenizer).save_pretrained(folder)
