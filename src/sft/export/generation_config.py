"""The generation config saved with a model: it stops where the training taught it to stop."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from transformers import GenerationConfig

from sft.generation.stop_tokens import as_token_ids, own_stop_tokens, pad_token


def generation_config_for(model: Any, tokenizer: Any, stop_token_ids: Sequence[int] = ()) -> Any:
    """The model's own generation config, whose ``eos_token_id`` names its own stop tokens and the trained ones.

    Args:
        model: anything with ``generation_config`` and ``config``.
        tokenizer: gives the pad token, and the stop token of models that name none.
        stop_token_ids: tokens that ended trained answers.
    """
    own = getattr(model, "generation_config", None)
    config = copy.deepcopy(own) if own is not None else GenerationConfig.from_model_config(model.config)
    stops = as_token_ids((*own_stop_tokens(model, tokenizer), *stop_token_ids))
    config.eos_token_id = stops[0] if len(stops) == 1 else list(stops) or None
    config.pad_token_id = pad_token(tokenizer, stops)
    config._from_model_config = False  # else transformers may derive it from config.json again and lose the stops
    return saveable(config)


def read_generation_config(model: str, revision: str | None = None) -> Any:
    """The generation config beside a model's weights, else what its ``config.json`` says, as transformers does."""
    try:
        return GenerationConfig.from_pretrained(model, revision=revision)
    except OSError:
        return GenerationConfig.from_pretrained(
            model, config_file_name="config.json", revision=revision, _from_model_config=True
        )


def saveable(config: Any) -> Any:
    """The same config in a form that transformers agrees to write.

    Published configs set sampling values without ``do_sample`` (Llama 2 does); they were meant for sampling.
    """
    if _is_valid(config):
        return config
    config.do_sample = True
    if _is_valid(config):
        return config
    return GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )


def _is_valid(config: Any) -> bool:
    try:
        config.validate(strict=True)
    except ValueError:
        return False
    return True
