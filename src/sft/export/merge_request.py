"""What was asked of a merge, as a task that fits: what is read, where and how it may be written, what is unusual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sft.errors import ExportError
from sft.export.adapted import load_tokenizer_of
from sft.export.adapter import CONFIG_NAME, Adapter, names_other_base
from sft.export.fit import check_fit, read_base_config, refuse_quantised
from sft.export.prompts import BUILT_IN_PROMPTS
from sft.export.quantised import choose_rounding, rounding_note
from sft.export.shards import parse_size
from sft.export.verify import encode_prompts
from sft.models.load import DTYPES
from sft.models.quantization import Quantization, read_quantization


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


def plan_merge(
    adapter: Adapter,
    base_model: str,
    *,
    base_revision: str | None,
    trust_remote_code: bool,
    dtype: str | None,
    prompts: Sequence[str] | None,
    max_difference: float | None,
    max_shard_size: str,
    base_weights: str,
) -> MergeTask:
    """See that an adapter fits a base model, and settle how the two become one.

    Arguments are those of ``merge_adapter``.

    Raises:
        ExportError: they do not fit, or what was asked for cannot be.
        ModelError: the base model's config cannot be read.
    """
    source: dict[str, Any] = {
        "revision": base_revision or adapter.base_revision,
        "trust_remote_code": trust_remote_code,
    }
    base_config = read_base_config(base_model, **source)
    refuse_quantised(base_config, base_model)
    saved_dtype = choose_dtype(dtype, base_config)
    rows = check_fit(adapter, base_config, base_model=base_model, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer_of(adapter, base_model, **source)
    return MergeTask(
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


def name_base(adapter: Adapter, base_model: str | None) -> str:
    """The base model that was given, else the one that the adapter names."""
    found = base_model or adapter.base_model
    if found is None:
        raise ExportError(f"The adapter {adapter.name!r} names no base model. Name it with --base_model.")
    return found


def check_output(output: Path, adapter: Adapter, base_model: str, *, keep_others: bool) -> Path:
    """The output folder, absolute, if a merged model may be written there."""
    output = output.expanduser().resolve()
    if output in (adapter.path.resolve(), Path(base_model).expanduser().resolve()):
        raise ExportError(f"output_path {str(output)!r} is the folder that is merged from. Choose another one.")
    if output.is_file():
        raise ExportError(f"output_path {str(output)!r} is a file. Name a folder that is new or empty.")
    if not output.is_dir():
        return output
    if keep_others and (output / CONFIG_NAME).is_file():
        raise ExportError(
            f"output_path {str(output)!r} holds an adapter ({CONFIG_NAME}). Beside a merged model, loaders would put "
            "it on top of weights that contain it already. Keep the adapter in a folder of its own."
        )
    if not keep_others and any(output.iterdir()):
        holds = ", ".join(sorted(entry.name for entry in output.iterdir())[:4])
        raise ExportError(f"output_path {str(output)!r} is not empty (it holds {holds}). Name a new or empty folder.")
    return output


def choose_dtype(dtype: str | None, base_config: Any) -> torch.dtype:
    """Precision of the written weights: as asked, else the base model's own."""
    if dtype is not None and dtype in DTYPES:
        return DTYPES[dtype]
    if dtype not in (None, "auto"):
        raise ExportError(f"dtype is {dtype!r}, but a merged model is saved as one of: {', '.join(DTYPES)}.")
    own = str(getattr(base_config, "dtype", None)).removeprefix("torch.")
    return DTYPES.get(own, torch.float32)


def notes_on(task: MergeTask) -> list[str]:
    """What is unusual about this merge."""
    adapter, notes = task.adapter, []
    if names_other_base(adapter, task.base_model):
        notes.append(
            f"the adapter names {adapter.base_model!r} as its base model; {task.base_model!r} was given and fits"
        )
    if task.rows is not None:
        notes.append(f"the embedding was resized to {task.rows} rows, as the adapter was trained")
    return [*notes, *rounding_note(adapter, task.rounding)]
