"""The model of a run without its weights: the same layers, shapes, precisions and adapter, and nothing read."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.errors import ModelError
from sft.models.families import read_past_the_layer
from sft.models.load import explain_load_failure, saved_method
from sft.models.precision import dtype_of
from sft.models.quantization import HEAD, quantization_of
from sft.training.build_model import choose_trained
from sft.training.memory.few_bits import hold_experts_in_few_bits, hold_in_few_bits

KNOWN_SAVED = (None, "mxfp4")
"""How a model may have been saved for its skeleton to be known: in full, or in what is loaded in full."""


def read_model_config(config: SFTConfig) -> Any:
    """What the model's folder tells of its build.

    Raises:
        ModelError: it cannot be read.
    """
    name = config.model_name_or_path
    try:
        return AutoConfig.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(explain_load_failure("model", name, error)) from error


def build_skeleton(
    config: SFTConfig, model_config: Any, tokenizer: PreTrainedTokenizerBase | None, *, strategy: str
) -> PreTrainedModel:
    """The model as it would be trained. Call it inside a FakeTensorMode.

    Args:
        tokenizer: needed for added tokens only.
        strategy: as ``choose_trained`` has it.

    Raises:
        ValueError: the model was saved in few bits in a way that is not known here.
    """
    if saved_method(model_config) not in KNOWN_SAVED:
        raise ValueError(f"its weights were saved by {saved_method(model_config)}")
    if hasattr(model_config, "quantization_config"):
        del model_config.quantization_config
    model = AutoModelForCausalLM.from_config(
        model_config,
        dtype=resolved_dtype(config, model_config),
        trust_remote_code=config.trust_remote_code,
        attn_implementation="eager" if config.attn_implementation == "eager" else None,
    )
    quantization = quantization_of(config)
    if quantization is not None:
        hold_in_few_bits(model, quantization, whole=(HEAD, *read_past_the_layer(model_config)))
        if config.quantize_experts:
            hold_experts_in_few_bits(model, bits=quantization.bits)
    if tokenizer is not None and len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.use_cache = False
    if config.use_lora and config.adapter_name_or_path is not None:
        return _with_loaded_adapter(model, config.adapter_name_or_path)
    plain = config if config.init_lora_weights == "default" else config.replace(init_lora_weights="default")
    return choose_trained(model, tokenizer, plain, strategy)


def resolved_dtype(config: SFTConfig, model_config: Any) -> torch.dtype:
    """Precision of the loaded weights; "auto" is that of the model's files."""
    dtype = dtype_of(config)
    if isinstance(dtype, torch.dtype):
        return dtype
    saved = getattr(model_config.get_text_config(), "dtype", None) or getattr(model_config, "dtype", None)
    return saved if isinstance(saved, torch.dtype) else torch.float32


def _with_loaded_adapter(model: PreTrainedModel, folder: str) -> Any:
    """A new adapter of the same build as the one in ``folder``; its matrices are float32."""
    from peft import PeftConfig, get_peft_model  # takes a second, and only adapters need it

    found = PeftConfig.from_pretrained(folder)
    found.inference_mode = False
    found.init_lora_weights = True
    adapted = get_peft_model(model, found)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return adapted


def tensor_bytes(model: nn.Module) -> int:
    """Bytes of the weights and buffers of a model; what two share counts once."""
    storages = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
        for tensor in (*model.parameters(), *model.buffers())
    }
    return sum(storages.values())
