"""Plan -> check -> merge -> save -> verify: an adapter becomes part of its base model's weights.

The merge is done in float32 on the CPU, layer by layer from file to file, so that it takes about the memory of one
layer. What counts is the comparison at the end: the model as it was written to disk is loaded again and must give the
logits that base model and adapter gave on the same prompts; where it does not fit into memory, its layers are read back
and compared one by one. Until then nothing stands at the output path.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sft.errors import ExportError
from sft.export.adapted import check_vocabulary, generation_config_of, load_adapted, load_tokenizer_of
from sft.export.adapter import Adapter, read_adapter
from sft.export.card import write_card
from sft.export.checkpoint import open_checkpoint, weight_files
from sft.export.fit import check_fit, read_base_config, refuse_quantised
from sft.export.folders import written_whole
from sft.export.generation_config import read_generation_config
from sft.export.in_memory import cast_weights, merge_weights
from sft.export.memory import PeakMemory, available_memory
from sft.export.merge_request import check_output, choose_dtype, notes_on
from sft.export.merge_result import MergeResult, card_of, describe_bytes
from sft.export.prompts import BUILT_IN_PROMPTS
from sft.export.quantised import can_round, choose_rounding, round_linear_layers, rounded_checkpoint, rounding_note
from sft.export.save import is_tied, save_tokenizer, set_tied
from sft.export.shards import parse_size
from sft.export.streamed import CannotStreamError, StreamedMerge, plan_streamed_merge
from sft.export.verify import Agreement, check_agreement, compare_logits, compute_logits, encode_prompts
from sft.export.written_check import WrittenCheck, check_written
from sft.models.load import load_model
from sft.models.quantization import Quantization, read_quantization

CHECKS = ("auto", "logits", "layers")
"""How a merge is verified. auto: by logits where a model of this size fits into memory, else layer by layer."""

HEADROOM = 1.15
"""What loading a model and running it takes beside its weights and the kept logits, as a factor."""


@dataclass(frozen=True)
class MergeTask:
    """One merge: what is read, what is to be written."""

    adapter: Adapter
    base_model: str
    base_config: Any
    source: dict[str, Any]
    """How the base model is found: revision, trust_remote_code."""
    rows: int | None
    dtype: torch.dtype
    tokenizer: Any
    prompts: list[list[int]]
    max_difference: float | None
    max_shard_bytes: int
    rounding: Quantization | None
    """How the base model's weights are rounded before the merge."""

    @property
    def trained_over(self) -> Quantization | None:
        """How the base was held when the adapter was trained."""
        return read_quantization(self.adapter.path)


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


def merge_adapter(
    *,
    base_model: str | None,
    adapter_path: str | Path,
    output_path: str | Path,
    dtype: str | None = None,
    base_revision: str | None = None,
    trust_remote_code: bool = False,
    prompts: Sequence[str] | None = None,
    max_difference: float | None = None,
    keep_others: bool = False,
    max_shard_size: str = "5GB",
    check: str = "auto",
    base_weights: str = "full",
) -> MergeResult:
    """Merge an adapter into its base model, check the result against the adapter, and save it.

    Args:
        base_model: folder or hub name. None: the one the adapter names.
        adapter_path: folder (or hub name) of the adapter.
        output_path: folder of the merged model; new or empty.
        dtype: precision of the written weights (float32, bfloat16, float16). None: the base model's.
        base_revision: branch, tag or commit of the base model on the hub. None: the one the adapter names, if any.
        trust_remote_code: run Python code that the base model brings along.
        prompts: user messages on which both are compared, rendered with the chat template. None: a built-in set.
        max_difference: largest logit difference allowed. None: 1e-4 for float32 (or 1e-5 of the largest logit, where
            that is more); 5 % of the largest logit for bfloat16, 1 % for float16, for the rounding of the weights.
        keep_others: ``output_path`` is a run folder; its checkpoints and other files stay.
        max_shard_size: most bytes in one weight file, such as ``"5GB"``.
        check: how the result is verified; see ``CHECKS``.
        base_weights: what the adapter is merged into: the base model's weights in "full", or "rounded" as they were
            held in few bits when the adapter was trained.

    Raises:
        ExportError: the adapter does not fit the base model, or the merged model differs from it by more than the
            bound. Nothing is left at ``output_path`` then.
        ModelError: the base model cannot be loaded.
    """
    if check not in CHECKS:
        raise ExportError(f"check is {check!r}, but a merge is verified by one of: {', '.join(CHECKS)}.")
    adapter = read_adapter(str(adapter_path))
    base_model = base_model or adapter.base_model
    if base_model is None:
        raise ExportError(f"The adapter {adapter.name!r} names no base model. Name it with --base_model.")
    output = check_output(Path(output_path), adapter, base_model, keep_others=keep_others)
    source: dict[str, Any] = {
        "revision": base_revision or adapter.base_revision,
        "trust_remote_code": trust_remote_code,
    }
    base_config = read_base_config(base_model, **source)
    refuse_quantised(base_config, base_model)
    saved_dtype = choose_dtype(dtype, base_config)
    rows = check_fit(adapter, base_config, base_model=base_model, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer_of(adapter, base_model, **source)
    task = MergeTask(
        adapter=adapter,
        base_model=base_model,
        base_config=base_config,
        source=source,
        rows=rows,
        dtype=saved_dtype,
        tokenizer=tokenizer,
        prompts=encode_prompts(tokenizer, prompts or BUILT_IN_PROMPTS),
        max_difference=max_difference,
        max_shard_bytes=parse_size(max_shard_size),
        rounding=choose_rounding(adapter, base_weights),
    )
    notes = [*notes_on(adapter, base_model, rows), *rounding_note(adapter, task.rounding)]
    with written_whole(output, keep_others=keep_others) as partial, torch.no_grad():
        merged = _merge(task, partial, check, notes)
        save_tokenizer(tokenizer, partial)
        files = [path.stat().st_size for path in partial.glob("*.safetensors")]
        result = _result(task, merged, output, str(adapter_path), largest_file=max(files), notes=notes)
        write_card(partial, card_of(result, adapter))
    return result


def _merge(task: MergeTask, folder: Path, check: str, notes: list[str]) -> Merged:
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


def _result(
    task: MergeTask, merged: Merged, output: Path, adapter_path: str, *, largest_file: int, notes: Sequence[str]
) -> MergeResult:
    agreement, layers = merged.agreement, merged.layers
    worst = max(merged.differences, default=None) if layers is None else layers.max_relative_difference
    return MergeResult(
        path=output,
        base_model=task.base_model,
        adapter_path=adapter_path,
        dtype=str(task.dtype).removeprefix("torch."),
        max_logit_difference=None if agreement is None else agreement.max_logit_difference,
        max_difference=merged.bound,
        top1_agreement=None if agreement is None else agreement.top1_agreement,
        num_prompts=0 if agreement is None else agreement.num_prompts,
        num_positions=0 if agreement is None else agreement.num_positions,
        max_layer_difference=worst,
        num_layers=len(merged.differences) if layers is None else layers.num_layers,
        tie_word_embeddings=merged.tied,
        peak_memory=merged.peak_memory,
        largest_file=largest_file,
        top1_agreement_as_trained=None if merged.as_trained is None else merged.as_trained.top1_agreement,
        notes=tuple(notes),
    )
