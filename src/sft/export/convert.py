"""A model written anew: other precision, other file sizes, the same weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from sft.errors import ExportError
from sft.export.fit import read_base_config, refuse_quantised
from sft.export.folders import written_whole
from sft.export.generation_config import generation_config_for
from sft.export.in_memory import cast_weights
from sft.export.merge_request import choose_dtype
from sft.export.save import is_tied, save_tokenizer, set_tied
from sft.export.shards import parse_size
from sft.models.load import explain_load_failure, load_model
from sft.models.tokenizer import read_tokenizer

HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Where the model lies, and that what was written is what was loaded."""

    path: Path
    dtype: str
    num_tensors: int
    """Tensors that were read back and compared bit by bit."""


def half_of(model: str, *, revision: str | None = None, trust_remote_code: bool = False) -> str:
    """The precision to publish a model in: its own, but bfloat16 for one in float32, which nobody serves."""
    config = read_base_config(model, revision=revision, trust_remote_code=trust_remote_code)
    own = choose_dtype(None, config)
    return str(own if own in HALVES else torch.bfloat16).removeprefix("torch.")


def convert_model(
    model: str,
    output_path: str | Path,
    *,
    dtype: str,
    revision: str | None = None,
    trust_remote_code: bool = False,
    max_shard_size: str = "5GB",
) -> Converted:
    """Write a model with its tokenizer and generation config into a new folder, and read every tensor back.

    Raises:
        ExportError: the folder is in use, the model is quantised, or what was written is not what was loaded.
        ModelError: the model cannot be loaded.
    """
    output = Path(output_path).expanduser().resolve()
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise ExportError(f"output_path {str(output)!r} is not empty. Name a new or empty folder.")
    source: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    refuse_quantised(read_base_config(model, **source), model)
    loaded = load_model(model, dtype="auto", **source)
    cast_weights(loaded, choose_dtype(dtype, loaded.config))
    loaded.config.dtype = dtype
    tokenizer = _tokenizer(model, **source)
    set_tied(loaded, tied=is_tied(loaded))
    loaded.generation_config = generation_config_for(loaded, tokenizer)
    with written_whole(output) as partial:
        loaded.save_pretrained(partial, max_shard_size=parse_size(max_shard_size))
        save_tokenizer(tokenizer, partial)
        count = _compare(dict(loaded.state_dict()), partial)
    return Converted(path=output, dtype=dtype, num_tensors=count)


def _tokenizer(model: str, **source: Any) -> Any:
    try:
        return read_tokenizer(model, **source)
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(explain_load_failure("tokenizer", model, error)) from error


def _compare(weights: dict[str, Tensor], folder: Path) -> int:
    """Read the files back, one tensor at a time; how many of them have the name of a weight.

    Raises:
        ExportError: one of them is another.
    """
    count = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in set(file.keys()) & weights.keys():
                count += 1
                if not torch.equal(file.get_tensor(name), weights[name]):
                    raise ExportError(f"{name} in {path.name} is not what was to be written. Nothing was saved.")
    if not count:
        raise ExportError("the files hold no weight under the model's own names, so they could not be compared.")
    return count
