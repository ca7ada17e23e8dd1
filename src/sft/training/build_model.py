"""The model of a run, and which of its weights are trained."""

from __future__ import annotations

from typing import Any

from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sft.config import SFTConfig
from sft.errors import ConfigError, ModelError
from sft.models.adapters import add_adapter
from sft.models.added_tokens import add_embedding_rows, refuse_frozen_rows, trained_rows
from sft.models.experts import balance_experts, quantise_experts
from sft.models.freezing import train_only
from sft.models.load import load_model
from sft.models.loftq import START as LOFTQ
from sft.models.loftq import make_up_for_rounding
from sft.models.precision import dtype_of
from sft.models.quantization import is_quantised, quantization_of
from sft.training.adapter_restarts import refuse_restarts_in_pieces
from sft.training.layers_in_turn import refuse_turns_in_pieces
from sft.training.mesh import refuse_tied
from sft.training.parallel import trains_on_cpu
from sft.training.strategy import asked_strategy


def build_model(config: SFTConfig, tokenizer: PreTrainedTokenizerBase, *, whole: bool = False) -> PreTrainedModel:
    """Load the base model, give it rows for added tokens, and decide which weights are trained.

    Args:
        whole: each process holds all of it, whatever is asked for: it is to be saved, not trained.
    """
    asked = asked_strategy(config, on_cpu=trains_on_cpu())
    strategy = asked.name
    refuse_eight_bits_in_pieces(config, strategy)
    refuse_turns_in_pieces(config, strategy)
    refuse_restarts_in_pieces(config, strategy)
    model = load_model(
        config.model_name_or_path,
        dtype=dtype_of(config),
        revision=config.model_revision,
        trust_remote_code=config.trust_remote_code,
        attn_implementation=config.attn_implementation,
        quantization=quantization_of(config),
        on_cpu=bool(config.training_arguments.get("use_cpu")),
        distributed=None if whole else asked.mesh.to_transformers(),
    )
    refuse_tied(model, asked.mesh)
    if config.quantize_experts:
        kind, double = config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant
        quantise_experts(model, bits=4 if config.load_in_4bit else 8, kind=kind, double=double)
    if config.router_aux_loss:
        balance_experts(model)
    add_embedding_rows(model, tokenizer, config)
    model.config.use_cache = False
    return choose_trained(model, tokenizer, config, strategy)


def choose_trained(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: SFTConfig, strategy: str) -> Any:
    """Everything, some layers, or an adapter, under a strategy of several processes ("DDP", "FSDP2", "ZeRO-3", ...).

    Raises:
        ModelError: it cannot be trained that way.
    """
    if not config.use_lora:
        refuse_quantised_weights(model, config)
        if config.trainable_layers is not None or config.trainable_modules:
            train_only(model, layers=config.trainable_layers, modules=config.trainable_modules)
            refuse_frozen_rows(model, tokenizer, config)
        return model
    rows = trained_rows(model, tokenizer, config)
    if rows is not None:
        refuse_rows_in_pieces(model, strategy, on_cpu=trains_on_cpu())
    adapted = add_adapter(
        model,
        r=config.lora_r,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        target_modules=config.target_modules,
        target_parameters=config.target_parameters,
        exclude_modules=config.exclude_modules,
        layers=config.layers_to_transform,
        modules_to_save=config.modules_to_save,
        token_rows=rows,
        bias=config.lora_bias,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        start=config.init_lora_weights,
        adapter_name_or_path=config.adapter_name_or_path,
    )
    if config.init_lora_weights == LOFTQ and config.adapter_name_or_path is None:
        refuse_loftq_in_pieces(strategy)
        make_up_for_rounding(adapted, config.model_name_or_path, revision=config.model_revision)
    if (config.training_arguments.get("gradient_checkpointing_kwargs") or {}).get("use_reentrant"):
        adapted.enable_input_require_grads()  # without it such checkpointing passes no gradient to a frozen embedding
    return adapted


def refuse_eight_bits_in_pieces(config: SFTConfig, strategy: str) -> None:
    """Raise ConfigError for 8-bit weights under FSDP, which parts them from the scales that bitsandbytes keeps."""
    if config.load_in_8bit and strategy.startswith("FSDP"):
        raise ConfigError(
            f"load_in_8bit = true under {strategy}: FSDP parts the weights from the scales that bitsandbytes keeps "
            "beside them. Use load_in_4bit, or DDP or DeepSpeed."
        )


def refuse_loftq_in_pieces(strategy: str) -> None:
    """Raise ConfigError for LoftQ under ZeRO-3, which parts weights and matrices while the model is loaded."""
    if strategy == "ZeRO-3":
        raise ConfigError(
            "init_lora_weights = loftq under ZeRO-3: its matrices are computed from whole weights. Use DDP, FSDP or "
            "ZeRO-2."
        )


def refuse_rows_in_pieces(model: PreTrainedModel, strategy: str, *, on_cpu: bool) -> None:
    """Raise ConfigError where PEFT's rows of added tokens cannot be sharded.

    Args:
        strategy: "DDP", "FSDP2", "ZeRO-3", ...
        on_cpu: there is no GPU.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and head.weight is embedding.weight
    if strategy.startswith("FSDP") and tied:
        why = (
            "embedding and output layer of this model are one weight, and FSDP cannot shard rows that two layers share"
        )
    elif strategy == "ZeRO-3" and on_cpu:
        why = "PEFT collects the rows of sharded embeddings on a GPU only, and this machine has none"
    else:
        return
    raise ConfigError(f"added_tokens under {strategy}: {why}. Use DDP or DeepSpeed ZeRO-2.")


def refuse_quantised_weights(model: PreTrainedModel, config: SFTConfig) -> None:
    """Raise ModelError for a full fine-tuning of a model that was saved in few bits."""
    if is_quantised(model):
        raise ModelError(
            f"{config.model_name_or_path} is quantised ({model.quantization_method}), and quantised weights cannot be "
            "trained. Set use_lora to train an adapter over them, or name the unquantised model."
        )
