"""Which weights of a loaded model are trained: all of them, or a LoRA adapter's."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from sft.errors import ModelError
from sft.models.brought_code import refuse_foreign_adapter
from sft.models.loftq import START as LOFTQ
from sft.models.residual import changes_weights, remember_start
from sft.models.targets import check_excluded, check_parameters, choose_targets, within_layers


def add_adapter(
    model: PreTrainedModel,
    *,
    r: int,
    alpha: float,
    dropout: float,
    target_modules: str | list[str] | None = None,
    target_parameters: list[str] | None = None,
    exclude_modules: str | list[str] | None = None,
    layers: list[int] | None = None,
    modules_to_save: list[str] | None = None,
    token_rows: Mapping[str, list[int]] | None = None,
    bias: str = "none",
    use_rslora: bool = False,
    use_dora: bool = False,
    start: str = "default",
    adapter_name_or_path: str | None = None,
) -> Any:
    """Freeze the model and put a trainable LoRA adapter on it, new or from a folder. Its weights are float32.

    What is not quantised of a quantised base keeps its precision: nothing of it is trained.

    Args:
        target_parameters: ends of names of weights, not layers, that get matrices too.
        layers: numbers of the decoder layers that get matrices. None: all.
        token_rows: rows of the embeddings that are trained with it, by layer.
        start: how the matrices begin, by PEFT's words; "default" for B = 0, "loftq" too: that needs the model's files.

    Raises:
        ModelError: a target is not in the model, or PEFT refuses it.
    """
    try:
        if adapter_name_or_path is not None:
            adapted = load_adapter(model, adapter_name_or_path, token_rows)
        else:
            check_excluded(model, exclude_modules)
            check_parameters(model, target_parameters)
            targets, layers = within_layers(model, choose_targets(model, target_modules), layers)
            adapted = make_adapter(
                model,
                r=r,
                lora_alpha=alpha,
                lora_dropout=dropout,
                target_modules=targets,
                target_parameters=target_parameters,
                exclude_modules=exclude_modules,
                layers_to_transform=layers,
                modules_to_save=modules_to_save,
                trainable_token_indices=None if token_rows is None else dict(token_rows),
                bias=bias,
                use_rslora=use_rslora,
                use_dora=use_dora,
                init_lora_weights=True if start in ("default", LOFTQ) else start,
            )
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ModelError(f"cannot add the adapter: {' '.join(str(error).split())}") from error
    check_width(adapted)
    remember_start(adapted)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return adapted


def load_adapter(model: PreTrainedModel, adapter: str, token_rows: Mapping[str, list[int]] | None) -> Any:
    """The adapter of a folder, to be trained on.

    Raises:
        ModelError: it does not fit what is asked of it.
    """
    from peft import PeftModel  # PEFT takes a second, and only adapters need it

    refuse_foreign_adapter(Path(adapter).expanduser())
    refuse_moved_base(adapter)
    adapted = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    refuse_missing_rows(adapted, adapter, token_rows)
    return adapted


def make_adapter(model: PreTrainedModel, **settings: Any) -> Any:
    """A new one, with settings by PEFT's names."""
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():  # our merge unties what an adapter makes different
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`", category=UserWarning)
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))


def refuse_moved_base(adapter: str) -> None:
    """Raise ModelError for an adapter that was saved over other weights than the model's own (PiSSA, not converted)."""
    from peft import PeftConfig

    start = getattr(PeftConfig.from_pretrained(adapter), "init_lora_weights", True)
    if changes_weights(start):
        raise ModelError(
            f"adapter_name_or_path = {adapter}: it was saved over the weights that {start} leaves, not over the "
            "model's own, so what is trained on from it would fit neither. Convert it to a plain LoRA (PEFT: "
            "save_pretrained with path_initial_model_for_weight_conversion), or go on from a folder that sft saved."
        )


def refuse_missing_rows(model: Any, adapter: str, wanted: Mapping[str, list[int]] | None) -> None:
    """Raise ModelError where a loaded adapter holds no rows for tokens that are added now.

    An adapter of PEFT may list the rows of the embedding, the first of the layers, without its name.
    """
    held = model.peft_config[model.active_adapter].trainable_token_indices or {}
    for number, (layer, ids) in enumerate((wanted or {}).items()):
        by_layer = held if isinstance(held, dict) else {layer: held} if number == 0 else {}
        rows = {row for name, found in by_layer.items() if layer.endswith(name) for row in found}
        if not set(ids) <= rows:
            raise ModelError(
                f"added_tokens with adapter_name_or_path = {adapter}: that adapter holds no rows of {layer} for these "
                "tokens, and they would stay as they begin. Add them when the adapter is made, or train a new one."
            )


def check_width(model: Any) -> None:
    """Raise ModelError where a matrix made of singular vectors is narrower than asked: the weight has too few."""
    for name, parameter in model.named_parameters():
        config = model.peft_config[model.active_adapter]
        if ".lora_A." in name and changes_weights(config.init_lora_weights) and parameter.shape[0] < config.r:
            raise ModelError(
                f"lora_r = {config.r} with init_lora_weights {config.init_lora_weights}: the weight of "
                f"{name.partition('.lora_A.')[0].removeprefix('base_model.model.')} has only {parameter.shape[0]} "
                f"singular vectors. Set lora_r to {parameter.shape[0]} or less."
            )


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters; a weight shared by two layers counts once, a 4-bit weight counts its elements."""
    trainable = total = 0
    for parameter in model.parameters():
        count = _num_elements(parameter)
        total += count
        trainable += count if parameter.requires_grad else 0
    return trainable, total


def _num_elements(parameter: Any) -> int:
    quantised = getattr(parameter, "quant_state", None)
    if quantised is not None:
        return int(quantised.shape.numel())
    return int(getattr(parameter, "ds_numel", parameter.numel()))  # ZeRO-3 leaves each process a shard
