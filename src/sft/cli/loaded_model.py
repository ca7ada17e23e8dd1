"""A model or an adapter as a user names it, loaded for use with the tokenizer that belongs to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from sft.errors import ModelError
from sft.export.adapted import generation_config_of, load_adapted, load_tokenizer_of
from sft.export.adapter import Adapter, is_adapter, read_adapter
from sft.export.fit import check_fit, read_base_config
from sft.export.quantised import load_over_quantised
from sft.models.cpu_products import multiply_quickly
from sft.models.load import explain_load_failure, load_model
from sft.models.precision import DTYPES
from sft.models.quantization import Quantization, is_quantised, read_quantization
from sft.models.tokenizer import read_tokenizer


def name_pair(model: str, adapter: str | None) -> tuple[str, str | None]:
    """Base model and adapter, where ``model`` may be the folder of an adapter that names its base model.

    Raises:
        ModelError: it names none.
    """
    if adapter is not None or not is_adapter(model):
        return model, adapter
    base = read_adapter(model).base_model
    if base is None:
        raise ModelError(f"The adapter {model!r} names no base model. Give both: --model BASE --adapter {model}")
    return base, model


def load_for_use(
    model: str,
    adapter: str | None = None,
    *,
    dtype: str = "auto",
    bits: int | None = None,
    trust_remote_code: bool = False,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """A model and its tokenizer on the CPU, ready to answer. Arguments as ``name_pair`` gives them.

    Args:
        bits: 4 or 8: hold the linear layers of the base in as many, on this process's device; as an adapter was trained
            over them, where it says so. None: in full.

    Raises:
        UserError: one of them cannot be loaded, or they do not fit.
    """
    if adapter is not None:
        loaded, tokenizer = _load_pair(read_adapter(adapter), model, dtype, bits, trust_remote_code)
        multiply_quickly(loaded)
        return loaded, tokenizer
    _check_folder(model)
    quantization = None if bits is None else Quantization(bits=bits)
    loaded = load_model(model, dtype=dtype, quantization=quantization, trust_remote_code=trust_remote_code).eval()
    multiply_quickly(loaded)
    return loaded, _load_tokenizer(model, trust_remote_code)


def load_tokenizer_for_use(
    model: str, adapter: str | None = None, *, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer that ``load_for_use`` would give, without the model."""
    if adapter is not None:
        found = read_adapter(adapter)
        tokenizer: PreTrainedTokenizerBase = load_tokenizer_of(
            found, model, revision=found.base_revision, trust_remote_code=trust_remote_code
        )
        return tokenizer
    _check_folder(model)
    return _load_tokenizer(model, trust_remote_code)


def usual_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_usual_device(model: Any) -> Any:
    """The model on the GPU where there is one. One in few bits was loaded to where it stays."""
    return model if is_quantised(getattr(model, "base_model", model)) else model.to(usual_device())


def _load_pair(found: Adapter, base: str, dtype: str, bits: int | None, trust_remote_code: bool) -> tuple[Any, Any]:
    source: dict[str, Any] = {"revision": found.base_revision, "trust_remote_code": trust_remote_code}
    rows = check_fit(found, read_base_config(base, **source), base_model=base, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer_of(found, base, **source)
    if bits is None:
        model = load_adapted(found, base, rows=rows, dtype=dtype, **source)
    else:
        trained = read_quantization(found.path)
        quantization = trained if trained is not None and trained.bits == bits else Quantization(bits=bits)
        precision = dtype if dtype != "auto" else quantization.rounded_from or dtype
        held = DTYPES.get(precision, precision)
        model = load_over_quantised(found, base, quantization, rows=rows, dtype=held, **source)
    config = generation_config_of(model.get_base_model(), found, tokenizer)
    model.generation_config = model.get_base_model().generation_config = config
    return model, tokenizer


def _load_tokenizer(model: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    try:
        return read_tokenizer(model, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(explain_load_failure("tokenizer", model, error)) from error


def _check_folder(model: str) -> None:
    """Say which folder inside was meant, when a run folder is named instead of the model in it."""
    folder = Path(model).expanduser()
    if not folder.is_dir() or (folder / "config.json").is_file():
        return
    inside = [found.parent for name in ("config.json", "adapter_config.json") for found in folder.glob(f"*/{name}")]
    if inside:
        names = ", ".join(sorted(str(Path(model) / found.name) for found in inside))
        raise ModelError(f"{model!r} is no model folder, but it holds some. Name one: {names}")
