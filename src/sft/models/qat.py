"""Quantisation-aware training: weights and inputs of linear layers rounded in every forward pass, as they will be when
the saved model is quantised. Gradients pass the rounding as if it were not there.

How a tensor is rounded stands in ``rounding.py``; here are the layers that do it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from sft.config import SFTConfig
from sft.config.fewer_bits import QAT_GROUPS
from sft.errors import ModelError
from sft.models.load import explain_load_failure
from sft.models.rounding import Round, Rounding, input_rounding, weight_rounding

NAMED = 4
"""Layers that an error names."""


def rounding_of(config: SFTConfig) -> Rounding | None:
    """What a configuration asks for; None: nothing is rounded."""
    if config.qat_weight_dtype is None:
        return None
    usual = QAT_GROUPS.get((config.qat_weight_dtype, config.qat_activation_dtype))
    return Rounding(
        weights=config.qat_weight_dtype,
        activations=config.qat_activation_dtype,
        group_size=usual if config.qat_group_size is None else config.qat_group_size,
        embedding=config.qat_embedding,
        head=config.qat_output_head,
        start_step=config.qat_start_step,
    )


class RoundedLinear(nn.Linear):
    """A linear layer whose weight and input are rounded while ``rounds`` is true. Its weight is the one it was."""

    rounds: bool
    round_weight: Round
    round_input: Round | None

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        if not self.rounds:
            return super().forward(input)
        shown = input if self.round_input is None else self.round_input(input)
        return functional.linear(shown, self.round_weight(self.weight), self.bias)


class RoundedEmbedding(nn.Embedding):
    """An embedding whose rows are rounded while ``rounds`` is true."""

    rounds: bool
    round_weight: Round

    def forward(self, input: Tensor) -> Tensor:
        """int64 (...) to (..., width)."""
        if not self.rounds:
            return super().forward(input)
        return functional.embedding(input, self.round_weight(self.weight), self.padding_idx)


def round_layers(model: Any, rounding: Rounding) -> int:
    """Make the linear layers of a model round, in place: same weights, same names. Returns how many do.

    Raises:
        ModelError: a layer's width is no multiple of the group size, or torchao is not installed.
    """
    require_library(rounding)
    check_widths(model, rounding)
    round_weight, round_input = weight_rounding(rounding), input_rounding(rounding)
    chosen: list[Any] = [layer for _, layer in _linear_layers(model, rounding)]
    for layer in chosen:
        layer.__class__ = RoundedLinear  # a new layer would draw new weights first, and lose what shards them
        layer.round_weight, layer.round_input = round_weight, round_input
    if rounding.embedding:
        embedding = model.get_input_embeddings()
        embedding.__class__ = RoundedEmbedding
        embedding.round_weight = round_weight
    set_rounding(model, on=rounding.start_step == 0)
    return len(chosen)


def set_rounding(model: nn.Module, *, on: bool) -> None:
    """Switch the rounding of every layer."""
    for module in model.modules():
        if isinstance(module, RoundedLinear | RoundedEmbedding):
            module.rounds = on


def require_library(rounding: Rounding) -> None:
    """Raise ModelError where the library that rounds is not installed."""
    if rounding.weights != "ternary" and importlib.util.find_spec("torchao") is None:
        raise ModelError(
            f"qat_weight_dtype = {rounding.weights}: weights are rounded by torchao, which is not installed. Install "
            'it (pip install "sft-kit[torchao]"), or leave the qat options out.'
        )


def refuse_unroundable(config: SFTConfig) -> None:
    """See from the model's config alone that its layers can be rounded as asked.

    Raises:
        ModelError: the library is not there, the model cannot be found, or a width is no multiple of the group size.
    """
    rounding = rounding_of(config)
    if rounding is None:
        return
    require_library(rounding)
    name, allowed = config.model_name_or_path, {"trust_remote_code": config.trust_remote_code}
    try:
        found = AutoConfig.from_pretrained(name, revision=config.model_revision, **allowed)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(found, **allowed)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(explain_load_failure("model", name, error)) from error
    check_widths(model, rounding)


def check_widths(model: Any, rounding: Rounding) -> None:
    """Raise ModelError for a model without linear layers, or with one that its groups do not fill."""
    layers = list(_linear_layers(model, rounding))
    if not layers:
        raise ModelError(
            f"qat_weight_dtype = {rounding.weights}: {type(model).__name__} has no linear layer that could be rounded."
        )
    if rounding.group_size is None:
        return
    widths = [(name, layer.in_features) for name, layer in layers]
    if rounding.embedding:
        widths.append(("the embedding", model.get_input_embeddings().embedding_dim))
    odd = [f"{name} ({width})" for name, width in widths if width % rounding.group_size]
    if odd:
        more = f" and {len(odd) - NAMED} more" if len(odd) > NAMED else ""
        raise ModelError(
            f"groups of {rounding.group_size} weights (qat_group_size, or what {rounding.weights} prescribes) do not "
            f"fill the rows of {', '.join(odd[:NAMED])}{more}. Choose a qat_group_size that divides these widths, or "
            "another qat_weight_dtype."
        )


def _linear_layers(model: Any, rounding: Rounding) -> Iterator[tuple[str, nn.Linear]]:
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if type(module) is nn.Linear and (rounding.head or module is not head):
            yield name, module
