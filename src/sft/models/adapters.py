"""Which weights of a loaded model are trained: all of them, or a LoRA adapter's."""

from __future__ import annotations

import logging
import re
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import PreTrainedModel

from sft.errors import ModelError
from sft.models.families import limit_targets

logger = logging.getLogger(__name__)

USUAL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def add_adapter(
    model: PreTrainedModel,
    *,
    r: int,
    alpha: float,
    dropout: float,
    target_modules: str | list[str] | None = None,
    modules_to_save: list[str] | None = None,
    bias: str = "none",
    use_rslora: bool = False,
    use_dora: bool = False,
    adapter_name_or_path: str | None = None,
) -> PeftModel:
    """Freeze the model and put a trainable LoRA adapter on it, new or from a folder. Its weights are float32.

    Raises:
        ModelError: a target is not in the model, or PEFT refuses it.
    """
    if getattr(model, "quantization_method", None) is not None:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    try:
        if adapter_name_or_path is not None:
            adapted = PeftModel.from_pretrained(model, adapter_name_or_path, is_trainable=True)
        else:
            config = LoraConfig(
                task_type="CAUSAL_LM",
                r=r,
                lora_alpha=alpha,
                lora_dropout=dropout,
                target_modules=choose_targets(model, target_modules),
                modules_to_save=modules_to_save,
                bias=bias,
                use_rslora=use_rslora,
                use_dora=use_dora,
            )
            adapted = get_peft_model(model, config)
    except (ValueError, OSError) as error:
        raise ModelError(f"cannot add the adapter: {' '.join(str(error).split())}") from error
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return adapted


def choose_targets(model: nn.Module, asked: str | list[str] | None) -> str | list[str]:
    """The layers that get LoRA matrices, checked against the model.

    Raises:
        ModelError: a name or pattern matches no layer; the message lists what there is. Or a LoRA on it could not
            learn.
    """
    asked, notes = limit_targets(model, asked)
    for note in notes:
        logger.warning(note)
    names = [name for name, module in model.named_modules() if name and not list(module.children())]
    linear = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if _is_linear(module)})
    if asked is None:
        usual = [target for target in USUAL_TARGETS if target in linear]
        return usual or "all-linear"
    if asked == "all-linear":
        return asked
    if isinstance(asked, str):
        if not any(re.fullmatch(asked, name) for name in names):
            raise ModelError(
                f"target_modules {asked!r} matches no layer of the model. Its linear layers: {', '.join(linear)}"
            )
        return asked
    modules = [name for name, _ in model.named_modules()]
    missing = [one for one in asked if not any(name == one or name.endswith(f".{one}") for name in modules)]
    if missing:
        raise ModelError(
            f"target_modules: {', '.join(missing)} not found in the model. Its linear layers: {', '.join(linear)}"
        )
    return asked


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
    return int(parameter.numel())


def _is_linear(module: nn.Module) -> bool:
    """Linear layers, quantised ones and GPT-2's Conv1D, whose class names all say so."""
    return isinstance(module, nn.Linear) or type(module).__name__ in ("Conv1D", "Linear4bit", "Linear8bitLt")
