"""Full fine-tuning of some weights: the last or first decoder layers, or those whose names match."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from sft.errors import ModelError


def train_only(model: PreTrainedModel, *, layers: int | None, modules: Sequence[str] | None) -> None:
    """Freeze everything but some decoder layers and the weights that a pattern is found in.

    Args:
        layers: how many, from the last; negative: from the first. None or 0: none of them as a layer.
        modules: regular expressions, searched for in the names of parameters. A tied weight goes by both its names.

    Raises:
        ModelError: the model has not so many layers, or a pattern is no expression or matches no weight.
    """
    prefixes = chosen_layers(model, layers) if layers else []
    patterns = [_compiled(pattern) for pattern in modules or []]
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    for pattern in patterns:
        if not any(pattern.search(name) for name in names):
            raise ModelError(
                f"trainable_modules: {pattern.pattern!r} is found in no weight's name. Names are such as "
                f"{', '.join([*names[:3], *names[-2:]])}. Leave the pattern out, or correct it."
            )
    model.requires_grad_(False)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name.startswith(tuple(prefixes)) or any(pattern.search(name) for pattern in patterns):
            parameter.requires_grad_(True)


def chosen_layers(model: PreTrainedModel, count: int) -> list[str]:
    """What the names of the weights in the last (or first, if negative) ``count`` decoder layers begin with."""
    name, stack = decoder_layers(model)
    if abs(count) > len(stack):
        raise ModelError(
            f"trainable_layers = {count}, but the model has {len(stack)} decoder layers ({name}). Give at most as "
            "many; or leave it out to train every weight."
        )
    numbers = range(len(stack))[-count:] if count > 0 else range(-count)
    return [f"{name}.{number}." for number in numbers]


def decoder_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The list of decoder layers and its name in the model.

    Raises:
        ModelError: the model keeps no such list.
    """
    expected = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    found = [(name, stack) for name, stack in lists if len(stack) == expected]
    if not found:
        raise ModelError(
            f"trainable_layers: {type(model).__name__} keeps no list of its decoder layers. Name the weights with "
            "trainable_modules instead."
        )
    return min(found, key=lambda pair: pair[0].count("."))


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ModelError(f"trainable_modules: {pattern!r} is no regular expression: {error}.") from error
