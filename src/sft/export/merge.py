"""Plan -> check -> merge -> save -> verify: an adapter becomes part of its base model's weights.

The merge is done in float32 on the CPU, layer by layer from file to file, so that it takes about the memory of one
layer. What counts is the comparison at the end: the model as it was written to disk is loaded again and must give the
logits that base model and adapter gave on the same prompts; where it does not fit into memory, its layers are read back
and compared one by one. Until then nothing stands at the output path.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from sft.errors import ExportError
from sft.export.adapter import read_adapter
from sft.export.card import write_card
from sft.export.folders import written_whole
from sft.export.merge_request import MergeTask, check_output, name_base, notes_on, plan_merge
from sft.export.merge_result import MergeResult, card_of
from sft.export.merge_ways import Merged, write_merged
from sft.export.save import save_tokenizer

CHECKS = ("auto", "logits", "layers")
"""How a merge is verified. auto: by logits where a model of this size fits into memory, else layer by layer."""


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
    base_model = name_base(adapter, base_model)
    output = check_output(Path(output_path), adapter, base_model, keep_others=keep_others)
    task = plan_merge(
        adapter,
        base_model,
        base_revision=base_revision,
        trust_remote_code=trust_remote_code,
        dtype=dtype,
        prompts=prompts,
        max_difference=max_difference,
        max_shard_size=max_shard_size,
        base_weights=base_weights,
    )
    notes = notes_on(task)
    with written_whole(output, keep_others=keep_others) as partial, torch.no_grad():
        merged = write_merged(task, partial, check, notes)
        save_tokenizer(task.tokenizer, partial)
        files = [path.stat().st_size for path in partial.glob("*.safetensors")]
        result = _result(task, merged, output, str(adapter_path), largest_file=max(files), notes=notes)
        write_card(partial, card_of(result, adapter))
    return result


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
