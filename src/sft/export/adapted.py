"""Loads a base model with an adapter on it, and the tokenizer and generation config that belong to the pair."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig

from sft.errors import ExportError
from sft.export.adapter import Adapter
from sft.export.generation_config import generation_config_for
from sft.export.save import quiet_peft
from sft.generation.stop_tokens import as_token_ids
from sft.models.load import load_model
from sft.models.tokenizer import read_tokenizer


def load_adapted(
    adapter: Adapter,
    base_model: str,
    *,
    rows: int | None,
    dtype: torch.dtype | str = torch.float32,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> PeftModel:
    """Base model with the adapter on it, on the CPU.

    Args:
        adapter: checked against the base model.
        base_model: folder or hub name.
        rows: rows of the embedding that the adapter was trained with, where they are not the base model's own.
        dtype: precision of the base model's weights; the adapter's are float32 where it has that.
        revision: of the base model on the hub.
        trust_remote_code: run Python code that the base model brings along.
    """
    model = load_model(base_model, dtype=dtype, revision=revision, trust_remote_code=trust_remote_code)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    with quiet_peft():
        adapted = PeftModel.from_pretrained(model, str(adapter.path))
    if dtype == torch.float32:
        adapted = adapted.float()
    return adapted.eval()


def load_tokenizer_of(
    adapter: Adapter, base_model: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> Any:
    """The tokenizer and chat template saved with the adapter, else the base model's."""
    source, revision = (str(adapter.path), None) if adapter.has_tokenizer else (base_model, revision)
    try:
        tokenizer = read_tokenizer(source, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"Cannot load the tokenizer from {source!r}: {reason}") from error
    template = adapter.path / "chat_template.jinja"
    if not adapter.has_tokenizer and template.is_file():
        tokenizer.chat_template = template.read_text(encoding="utf-8")
    return tokenizer


def check_vocabulary(adapter: Adapter, tokenizer: Any, model: Any) -> None:
    """The tokenizer saved with an adapter names no token that the model has no row for."""
    rows = model.get_input_embeddings().weight.shape[0]
    if adapter.has_tokenizer and len(tokenizer) > rows:
        raise ExportError(
            f"The tokenizer of the adapter {adapter.name!r} has {len(tokenizer)} tokens, but base model and adapter "
            f"together have {rows} embedding rows: the rows of the added tokens were not saved with the adapter. Save "
            "them (modules_to_save), or give as base model the resized model that was trained."
        )


def generation_config_of(model: Any, adapter: Adapter, tokenizer: Any) -> Any:
    """The adapter's generation config, which names the trained stop tokens, beside the base model's own stops."""
    stops = as_token_ids(getattr(model.generation_config, "eos_token_id", None))
    if (adapter.path / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(str(adapter.path))
    return generation_config_for(model, tokenizer, stops)
