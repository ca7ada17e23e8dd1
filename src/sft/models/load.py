"""The base model: found, checked, loaded in the precision that was asked for."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, Mxfp4Config, PreTrainedModel
from transformers.distributed import DistributedConfig

from sft.errors import ModelError
from sft.models.brought_code import refuse_brought_code
from sft.models.families import read_past_the_layer
from sft.models.precision import DTYPES
from sft.models.quantization import Quantization, is_quantised, keep_gradients_after_evaluation

__all__ = ["DTYPES", "explain_load_failure", "load_model"]


def load_model(
    name: str,
    *,
    dtype: torch.dtype | str = torch.float32,
    revision: str | None = None,
    trust_remote_code: bool = False,
    attn_implementation: str | None = None,
    quantization: Quantization | None = None,
    on_cpu: bool = False,
    distributed: DistributedConfig | None = None,
) -> PreTrainedModel:
    """Load a causal language model from a folder or the hub, on the CPU or, quantised, on this process's device.

    Args:
        on_cpu: a quantised model stays on the CPU too.
        distributed: over which processes its weights are parted while they are loaded. None: this one has them all.

    Raises:
        ModelError: it cannot be found, is no causal language model, or brings code that was not allowed.
    """
    kwargs: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    config = read_model_config(name, **kwargs)
    try:
        if quantization is not None:
            quantization.require_library()
            kwargs |= {"device_map": {"": "cpu"}} if on_cpu else {}
            kwargs["quantization_config"] = quantization.to_bitsandbytes(dtype, whole=read_past_the_layer(config))
        elif saved_method(config) == "mxfp4":
            kwargs["quantization_config"] = Mxfp4Config(dequantize=True)  # as it is saved, nothing over it learns
        elif saved_method(config) == "gptq" and isinstance(config.quantization_config, dict):
            config.quantization_config["backend"] = "auto_trainable"  # the quickest kernels have no backward pass
        if distributed is not None:
            kwargs["distributed_config"] = distributed
        if attn_implementation is not None:
            kwargs["attn_implementation"] = attn_implementation
        model = AutoModelForCausalLM.from_pretrained(name, config=config, dtype=dtype, use_safetensors=True, **kwargs)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(explain_load_failure("model", name, error)) from error
    if is_quantised(model):
        keep_gradients_after_evaluation(model)
    return model


def read_model_config(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False, what: str = "model"
) -> Any:
    """The config of a model that brings no code.

    Args:
        what: what messages call it.

    Raises:
        ModelError: there is no model there, or it brings code that was not allowed.
    """
    refuse_brought_code(name, revision=revision, trust_remote_code=trust_remote_code)
    try:
        return AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(explain_load_failure(what, name, error)) from error


def saved_method(config: Any) -> str | None:
    """How the weights of a model were quantised when it was saved; None where they were not."""
    saved = getattr(config, "quantization_config", None)
    return saved.get("quant_method") if isinstance(saved, dict) else getattr(saved, "quant_method", None)


def explain_load_failure(what: str, name: str, error: Exception) -> str:
    """One readable sentence for what transformers says in many ways."""
    reason = " ".join(str(error).split())
    if len(reason) > 300:
        reason = reason[:300] + " ..."
    path = Path(name).expanduser()
    if "FlashAttention" in reason:
        hint = "Leave attn_implementation out, or give sdpa, which every machine has:"
    elif path.is_file():
        hint = "This is a file. Name the folder that it lies in."
    elif path.is_dir():
        hint = f"The folder holds: {_listed(path)}."
    elif name.startswith((".", "/", "~")):
        return f"cannot load the {what} {name!r}. {_nearest_place(path)}"
    else:
        hint = "There is no such folder here, so it was looked up as a name on the Hugging Face hub."
    return f"cannot load the {what} {name!r}. {hint} {reason}"


def _nearest_place(path: Path) -> str:
    """How far a path goes that leads nowhere. What the hub makes of it as a name is beside the point."""
    above = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    near = get_close_matches(path.name, [entry.name for entry in above.iterdir()], n=3)
    found = f"comes near with {', '.join(near)}" if near else f"holds: {_listed(above)}"
    return f"There is no such folder; the folder {str(above)!r} {found}."


def _listed(folder: Path) -> str:
    return ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
