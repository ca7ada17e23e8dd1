"""Base models that were saved in few bits (GPTQ, bitsandbytes, ...): what training over them needs."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig
from transformers.quantizers import AutoHfQuantizer

from sft.config import SFTConfig
from sft.errors import ConfigError, ModelError
from sft.models.load import explain_load_failure, saved_method
from sft.models.precision import dtype_of

READ_IN_FULL = ("mxfp4",)
"""Methods whose weights become 16-bit weights when they are loaded."""


def refuse_saved_quantization(config: SFTConfig) -> None:
    """See from the model's config alone that a run over its weights, if they are in few bits, can begin and end.

    Raises:
        ConfigError: options ask for what cannot be done with such weights.
        ModelError: a package or a device is missing, or nothing can be trained over them.
    """
    name = config.model_name_or_path
    try:
        found = AutoConfig.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(explain_load_failure("model", name, error)) from error
    method = saved_method(found)
    if method is None or method in READ_IN_FULL:
        return
    method = str(getattr(method, "value", method))
    refuse_options(config, method)
    _refuse_machine(found, config, method)


def refuse_options(config: SFTConfig, method: str) -> None:
    """Raise ConfigError, or ModelError for a full fine-tuning, where weights saved by ``method`` rule it out."""
    name = config.model_name_or_path
    if not config.use_lora:
        raise ModelError(
            f"{name} is quantised ({method}), and quantised weights cannot be trained. Set use_lora to train an "
            "adapter over them, or name the unquantised model."
        )
    asked = next((one for one in ("load_in_4bit", "load_in_8bit") if getattr(config, one)), None)
    if asked is not None and method != "bitsandbytes":
        raise ConfigError(
            f"{asked} = true, but {name} is quantised already ({method}). Leave {asked} out, or name the unquantised "
            "model."
        )
    if config.merged_dir is not None:
        raise ConfigError(
            f"merged_dir = {config.merged_dir}, but {name} is quantised ({method}), and merging would round the "
            "adapter away with the weights. Leave merged_dir out, and merge into the unquantised model afterwards "
            "(sft merge)."
        )


def _refuse_machine(found: Any, config: SFTConfig, method: str) -> None:
    try:
        quantizer = AutoHfQuantizer.from_config(found.quantization_config, pre_quantized=True)
        quantizer.validate_environment(dtype=dtype_of(config), device_map=None)
    except (ImportError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ModelError(
            f"{config.model_name_or_path} is quantised ({method}), and cannot be loaded here. transformers says: "
            f"{said} Or name the unquantised model, with load_in_4bit."
        ) from error
    if not quantizer.is_trainable:
        raise ModelError(
            f"{config.model_name_or_path} is quantised ({method}), and transformers has no backward pass through such "
            "weights. Name the unquantised model, with load_in_4bit."
        )
