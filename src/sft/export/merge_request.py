"""What was asked of a merge: where it may write, in which precision, and what is unusual about the pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sft.errors import ExportError
from sft.export.adapter import CONFIG_NAME, Adapter, names_other_base
from sft.models.load import DTYPES


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


def notes_on(adapter: Adapter, base_model: str, rows: int | None) -> list[str]:
    """What is unusual about this merge."""
    notes = []
    if names_other_base(adapter, base_model):
        notes.append(f"the adapter names {adapter.base_model!r} as its base model; {base_model!r} was given and fits")
    if rows is not None:
        notes.append(f"the embedding was resized to {rows} rows, as the adapter was trained")
    return notes
