"""Writes a trained model or adapter with everything that is needed to use it as it was trained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from sft.data.templates import with_default_kwargs
from sft.export.card import TrainingFacts, render_card, write_card
from sft.export.folders import written_whole
from sft.export.generation_config import generation_config_for
from sft.models.adapted import is_adapted
from sft.models.kept_adapters import as_one_adapter
from sft.models.quantization import Quantization, write_quantization
from sft.models.residual import as_plain_lora


def save_final(
    *,
    model: Any,
    tokenizer: Any,
    folder: Path,
    stop_token_ids: Sequence[int],
    facts: TrainingFacts,
    template_defaults: Mapping[str, Any] | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
    keep_others: bool = False,
    save_embeddings: bool = False,
    quantization: Quantization | None = None,
    max_shard_size: str = "5GB",
) -> Path:
    """Save a trained model, or the adapter of a PeftModel, so that any loader uses it as it was trained.

    Written: safetensors weights, their config, the tokenizer with the chat template that rendered the training data, a
    generation config that stops at the trained stop tokens, and a model card. The folder appears when all of it is
    written. Call it on one process.

    Args:
        model: a transformers model or a PeftModel around one, unwrapped.
        tokenizer: with the chat template that was used.
        folder: where to; what an earlier save left there is replaced.
        stop_token_ids: tokens that ended the trained answers.
        facts: for the model card.
        template_defaults: variables the data was rendered with, such as ``{"enable_thinking": False}``; they become the
            template's defaults, so that a prompt made without them is the prompt that was trained.
        state_dict: gathered weights, where the model's own are sharded.
        keep_others: ``folder`` holds other things too (it is the run folder itself), which stay.
        save_embeddings: write the embedding rows into an adapter, needed when tokens were added to the base model.
        quantization: how the base under an adapter was held while it was trained; recorded beside it.
        max_shard_size: most bytes in one weight file, as transformers writes it.

    Returns:
        The folder, absolute.
    """
    folder = folder.expanduser().resolve()
    is_adapter = is_adapted(model)
    generation_config = generation_config_for(model, tokenizer, stop_token_ids)
    with written_whole(folder, keep_others=keep_others) as partial:
        if is_adapter:
            _save_adapter(model, partial, state_dict, save_embeddings=save_embeddings)
            if quantization is not None:
                write_quantization(partial, quantization)
        else:
            _save_model(model, partial, state_dict, generation_config, max_shard_size)
        generation_config.save_pretrained(partial)
        save_tokenizer(tokenizer, partial, template_defaults)
        write_card(partial, render_card(facts, kind="adapter" if is_adapter else "model", name=folder.name))
    return folder


def save_tokenizer(tokenizer: Any, folder: Path, template_defaults: Mapping[str, Any] | None = None) -> None:
    """Write the tokenizer and its chat template, whose variables get ``template_defaults`` as their defaults."""
    template = tokenizer.chat_template
    if template_defaults and isinstance(template, str):
        tokenizer.chat_template = with_default_kwargs(template, template_defaults)
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.chat_template = template


def _save_model(
    model: Any, folder: Path, state_dict: Mapping[str, Tensor] | None, generation_config: Any, max_shard_size: str
) -> None:
    if state_dict is None:  # the parameters of a sharded model do not tell what is tied
        set_tied(model, tied=is_tied(model))
    own = model.generation_config
    model.generation_config = generation_config
    try:
        model.save_pretrained(folder, state_dict=state_dict, max_shard_size=max_shard_size)
    finally:
        model.generation_config = own


def _save_adapter(model: Any, folder: Path, state_dict: Mapping[str, Tensor] | None, *, save_embeddings: bool) -> None:
    """The base model is named by its absolute path where it is a folder, so that the adapter finds it from anywhere.

    An adapter that began as a part of the weights is written as one that fits the original weights.
    """
    for config in model.peft_config.values():
        name = config.base_model_name_or_path
        if name and Path(name).expanduser().is_dir():
            config.base_model_name_or_path = str(Path(name).expanduser().resolve())
    with quiet_peft(), as_one_adapter(model, state_dict) as joined, as_plain_lora(model, joined) as weights:
        own = {"selected_adapters": list(model.active_adapters), "save_embedding_layers": save_embeddings}
        model.save_pretrained(folder, state_dict=weights, **own)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Leave out PEFT's advice on tied embeddings, which the callers act upon, and its use of a deprecated name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"peft\..*")
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


def is_tied(model: Any) -> bool:
    """Whether input embedding and output layer are one tensor."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and embedding is not None and head.weight is embedding.weight


def set_tied(model: Any, *, tied: bool) -> None:
    """Write into the config whether the embeddings are tied, so that a loader does not tie what was trained apart."""
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "tie_word_embeddings", tied) != tied:
            config.tie_word_embeddings = tied
