"""The merge of a whole model in memory, for the models and adapters that cannot be merged layer by layer."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch import nn

from sft.errors import ExportError
from sft.export.save import is_tied, quiet_peft, set_tied


def merge_weights(model: PeftModel) -> Any:
    """Add the adapter's part to the weights and take the adapter off.

    A tied embedding is untied first: what an adapter adds to the input embedding or to the output layer alone must not
    reach the other. Where both come out equal they are one again.
    """
    base = model.get_base_model()
    was_tied = bool(base.config.get_text_config().tie_word_embeddings)
    if was_tied:
        untie(base)
    try:
        with quiet_peft():
            merged = model.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError, AttributeError) as error:
        raise ExportError(f"PEFT cannot merge this adapter: {' '.join(str(error).split())}") from error
    if was_tied:
        retie_if_equal(merged)
    return merged


def untie(model: nn.Module) -> None:
    """Give every layer that shares its weight with another a copy of its own."""
    seen: set[int] = set()
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in seen:
                setattr(module, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))
            seen.add(id(parameter))


def retie_if_equal(model: Any) -> None:
    """One tensor for input embedding and output layer where they are equal, and the config to match."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if torch.equal(head.weight, embedding.weight):
        head.weight = embedding.weight
    set_tied(model, tied=is_tied(model))


def cast_weights(model: Any, dtype: torch.dtype) -> None:
    """Round the weights to ``dtype``, except those that the architecture keeps in float32."""
    kept = tuple(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    for name, parameter in model.named_parameters():
        if not any(part in kept for part in name.split(".")):
            parameter.data = parameter.data.to(dtype)
