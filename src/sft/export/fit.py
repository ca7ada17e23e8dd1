"""Checks on shapes alone that an adapter fits a base model, and names the layer that does not.

No weight is read, so a wrong pair is refused in a second, whatever the size of the models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForCausalLM

from sft.errors import ExportError
from sft.export.adapter import Adapter, Shape, names_other_base
from sft.export.save import quiet_peft
from sft.models.load import read_model_config

PREFIX = "base_model.model."
"""What PEFT writes before the name of each layer."""

WHOLE_ROWS = (".weight", ".base_layer.weight", ".token_adapter.base_layer.weight")
"""How the name of an embedding saved whole goes on after its layer."""


def read_base_config(base_model: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """The base model's config.

    Raises:
        ModelError: there is no model there.
    """
    return read_model_config(base_model, revision=revision, trust_remote_code=trust_remote_code, what="base model")


def refuse_quantised(base_config: Any, base_model: str) -> None:
    """Refuse to merge into weights that are held in few bits.

    Raises:
        ExportError: the base model is quantised.
    """
    quantization = getattr(base_config, "quantization_config", None)
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise ExportError(
            f"The base model {base_model!r} is quantised ({method}). Merging would round the adapter away with the "
            "weights, so the result would differ from what was trained. Give the unquantised model as --base_model."
        )


def check_fit(adapter: Adapter, base_config: Any, *, base_model: str, trust_remote_code: bool) -> int | None:
    """Check every tensor of the adapter against the base model, without loading either.

    Returns:
        Rows of the embedding after resizing, where the adapter was trained with tokens added; None: as they are.

    Raises:
        ExportError: naming the layer that does not fit.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(base_config, trust_remote_code=trust_remote_code)
    rows = vocabulary_rows(adapter, model)
    embeddings = {_name_of(model, model.get_input_embeddings()), _name_of(model, model.get_output_embeddings())}
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    foreign = _foreign_base(adapter, base_model)
    try:
        with quiet_peft():
            adapted = get_peft_model(model, _config_for_shapes(adapter))
            expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    except ValueError as error:
        raise ExportError(
            f"The adapter {adapter.name!r} does not fit the base model {base_model!r}: {' '.join(str(error).split())}"
            f"{foreign}"
        ) from error
    for name, shape in adapter.shapes.items():
        if name in expected and tuple(expected[name].shape) != shape:
            raise ExportError(
                f"Layer {layer_of(name)}: the adapter's {name.removeprefix(PREFIX)} has shape {shape}, but the base "
                f"model {base_model!r} needs {tuple(expected[name].shape)}.{foreign}"
            )
    _check_names(adapter, adapted, embeddings, base_model, foreign)
    return rows


def _config_for_shapes(adapter: Adapter) -> Any:
    """The adapter's config without a start that would be computed from weights, which are not there."""
    config = PeftConfig.from_pretrained(str(adapter.path))
    if isinstance(getattr(config, "init_lora_weights", None), str):
        config.init_lora_weights = True
    return config


def vocabulary_rows(adapter: Adapter, model: Any) -> int | None:
    """How many embedding rows the adapter was trained with, where that is not the base model's own number.

    Raises:
        ExportError: tokens were added, but their rows were not saved.
    """
    embedding = _name_of(model, model.get_input_embeddings())
    head = _name_of(model, model.get_output_embeddings())
    own = int(model.get_input_embeddings().weight.shape[0])
    whole = {layer: _rows(adapter.shapes, layer, WHOLE_ROWS) for layer in (embedding, head)}
    low_rank = _rows(adapter.shapes, embedding, (".lora_embedding_A",), dimension=1)
    low_rank |= _rows(adapter.shapes, head, (".lora_B.weight",))
    trained = {layer: _trained_tokens(adapter.config, layer, embedding) for layer in whole}
    rows = max(
        *whole[embedding],
        *whole[head],
        *low_rank,
        *(token + 1 for tokens in trained.values() for token in tokens if token >= own),
        0,
        0,
    )
    if rows in (0, own):
        return None
    restored = {layer for layer in whole if whole[layer]}
    restored |= {layer for layer, tokens in trained.items() if set(range(own, rows)) <= tokens}
    if (
        embedding in restored
        and model.config.tie_word_embeddings
        and embedding not in _whole_modules(adapter, embedding)
    ):
        restored.add(head)
    lost = [layer for layer in whole if layer and layer not in restored]
    if rows > own and lost:
        raise ExportError(
            f"The adapter {adapter.name!r} was trained with {rows} embedding rows, the base model has {own}, and the "
            f"rows of the {rows - own} added tokens were not saved for {', '.join(lost)}, so they cannot be restored. "
            "Save them with the adapter (modules_to_save), or give as base model the resized model that was trained."
        )
    return rows


def layer_of(tensor: str) -> str:
    """The layer an adapter's tensor belongs to: its name without PEFT's parts."""
    parts = r"\.(?:lora_|base_layer|token_adapter|modules_to_save|original_module|weight$|bias$)"
    return re.split(parts, tensor.removeprefix(PREFIX))[0]


def _foreign_base(adapter: Adapter, base_model: str) -> str:
    if not names_other_base(adapter, base_model):
        return ""
    return f" The adapter names another base model: {adapter.base_model!r}; give that one with --base_model."


def _check_names(adapter: Adapter, adapted: Any, embeddings: set[str], base_model: str, foreign: str) -> None:
    """Every tensor has its place in the model, and every place its tensor. PEFT would only warn, or say nothing.

    Of resized embeddings PEFT saves copies that it does not load again.
    """
    tensors = {name: torch.empty(shape, device="meta") for name, shape in adapter.shapes.items()}
    try:
        outcome = set_peft_model_state_dict(adapted, tensors, low_cpu_mem_usage=True, ignore_mismatched_sizes=True)
    except KeyError as error:
        lacking, surplus = [str(error.args[0])], []
    else:
        lacking = [name for name in outcome.missing_keys if "lora_" in name or ".modules_to_save." in name]
        surplus = [name for name in outcome.unexpected_keys if layer_of(name) not in embeddings]
    for names, has, needs in ((surplus, "weights", "does not have"), (lacking, "no weights", "needs")):
        if names:
            layers = sorted({layer_of(name) for name in names})
            more = f" (and {len(layers) - 1} more layers)" if len(layers) > 1 else ""
            raise ExportError(
                f"The adapter {adapter.name!r} has {has} for {layers[0]}{more}, which the base model {base_model!r} "
                f"{needs}.{foreign}"
            )


def _whole_modules(adapter: Adapter, layer: str) -> set[str]:
    """``layer`` if the adapter holds a trained copy of it (modules_to_save); a layer tied to it was left as it was."""
    names = getattr(adapter.config, "modules_to_save", None) or []
    return {layer} if any(layer.endswith(name) for name in names) else set()


def _rows(shapes: Mapping[str, Shape], layer: str, suffixes: tuple[str, ...], dimension: int = 0) -> set[int]:
    wanted = {PREFIX + layer + suffix for suffix in suffixes}
    return {shape[dimension] for name, shape in shapes.items() if name in wanted}


def _trained_tokens(config: Any, layer: str, embedding: str) -> set[int]:
    """Token ids of which the adapter holds rows for a layer (PEFT's trainable_token_indices: a list per layer, or one
    for the embedding)."""
    tokens = getattr(config, "trainable_token_indices", None) or getattr(config, "token_indices", None) or []
    lists = tokens if isinstance(tokens, dict) else {embedding: tokens}
    return {int(token) for name, found in lists.items() if layer and layer.endswith(name) for token in found}


def _name_of(model: Any, module: Any) -> str:
    return next((str(name) for name, found in model.named_modules() if found is module), "")
