"""Which layers of a model get LoRA matrices, checked against the layers that there are."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from sft.errors import ModelError
from sft.models.families import limit_targets
from sft.models.freezing import decoder_layers

logger = logging.getLogger(__name__)

USUAL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def choose_targets(model: nn.Module, asked: str | list[str] | None) -> str | list[str]:
    """The layers that get LoRA matrices, checked against the model.

    Raises:
        ModelError: a name or pattern matches no layer; the message lists what there is. Or a LoRA on it could not
            learn.
    """
    asked, notes = limit_targets(model, asked)
    for note in notes:
        logger.warning(note)
    linear = linear_names(model)
    if asked is None:
        usual = [target for target in USUAL_TARGETS if target in linear]
        return usual or "all-linear"
    if asked == "all-linear":
        return asked
    unknown = missing_names(model, asked)
    if unknown:
        what = f"{asked!r} matches no layer of" if isinstance(asked, str) else f"{', '.join(unknown)} not found in"
        raise ModelError(f"target_modules: {what} the model. Its linear layers: {', '.join(linear)}")
    return asked


def check_excluded(model: nn.Module, excluded: str | list[str] | None) -> None:
    """Raise ModelError for an ``exclude_modules`` that leaves nothing out."""
    unknown = missing_names(model, excluded) if excluded else []
    if unknown:
        raise ModelError(
            f"exclude_modules: {', '.join(unknown)} not found in the model, so that nothing would be left out. Its "
            f"linear layers: {', '.join(linear_names(model))}"
        )


def check_parameters(model: nn.Module, asked: Sequence[str] | None) -> None:
    """Raise ModelError for ``target_parameters`` that are not there; PEFT would pass over them."""
    names = [name for name, _ in model.named_parameters()]
    ends = sorted({name.rpartition(".layers.")[2].partition(".")[2] for name in names if ".layers." in name})
    missing = [one for one in asked or () if not any(name == one or name.endswith(f".{one}") for name in names)]
    if missing:
        raise ModelError(
            f"target_parameters: {', '.join(missing)} not found in the model. Weights of its layers: {', '.join(ends)}"
        )


def within_layers(
    model: PreTrainedModel, targets: str | list[str], layers: Sequence[int] | None
) -> tuple[str | list[str], list[int] | None]:
    """Targets and ``layers_to_transform`` in the form that PEFT takes: numbers of layers only beside names.

    Raises:
        ModelError: a layer that the model does not have.
    """
    if layers is None:
        return targets, None
    name, stack = decoder_layers(model)
    beyond = [number for number in layers if not 0 <= number < len(stack)]
    if beyond:
        raise ModelError(
            f"layers_to_transform: the model has no layer {', '.join(map(str, beyond))}. Its layers ({name}) go from 0 "
            f"to {len(stack) - 1}."
        )
    if isinstance(targets, list):
        return targets, list(layers)
    inside = [f"{name}.{number}." for number in layers]
    full = [
        module_name
        for module_name, module in model.named_modules()
        if module_name.startswith(tuple(inside)) and _is_targeted(module_name, module, targets)
    ]
    if not full:
        raise ModelError(f"target_modules {targets!r} matches nothing in the layers {list(layers)}.")
    return full, None


def missing_names(model: nn.Module, asked: str | list[str]) -> list[str]:
    """Those of the names that are no layer's; a regular expression counts if it matches no whole name."""
    names = [name for name, _ in model.named_modules() if name]
    if isinstance(asked, str):
        try:
            found = any(re.fullmatch(asked, name) for name in names)
        except re.error as error:
            raise ModelError(f"{asked!r} is no regular expression: {error}. Give names as a list.") from error
        return [] if found else [asked]
    return [one for one in asked if not any(name == one or name.endswith(f".{one}") for name in names)]


def linear_names(model: nn.Module) -> list[str]:
    """The last parts of the names of all linear layers, each once."""
    return sorted({name.rpartition(".")[2] for name, module in model.named_modules() if is_linear(module)})


def is_linear(module: nn.Module) -> bool:
    """Linear layers, quantised ones and GPT-2's Conv1D, whose class names all say so."""
    return isinstance(module, nn.Linear) or type(module).__name__ in ("Conv1D", "Linear4bit", "Linear8bitLt")


def _is_targeted(name: str, module: nn.Module, targets: str) -> bool:
    return is_linear(module) if targets == "all-linear" else re.fullmatch(targets, name) is not None
