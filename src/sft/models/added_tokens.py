"""Words that become one token: in the tokenizer, as rows of the embeddings, and as what an adapter trains of them."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.errors import ModelError


def add_tokens(tokenizer: PreTrainedTokenizerBase, plain: Sequence[str] | None, special: Sequence[str] | None) -> None:
    """Make each word one token. A word that is one already keeps its id."""
    for words, is_special in ((plain, False), (special, True)):
        tokens = [AddedToken(word, special=is_special, normalized=False) for word in words or []]
        tokenizer.add_tokens(tokens, special_tokens=is_special)


def added_token_ids(tokenizer: PreTrainedTokenizerBase, config: SFTConfig) -> list[int]:
    """Ids of the words that a configuration adds, ascending."""
    words = [*(config.added_tokens or []), *(config.added_special_tokens or [])]
    return sorted({int(tokenizer.convert_tokens_to_ids(word)) for word in words})


def add_embedding_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: SFTConfig) -> None:
    """Give every token of the tokenizer a row in the embeddings; a model may have more rows than that.

    Raises:
        ModelError: new rows would stay as they are, because what is trained does not hold them.
    """
    rows = model.get_input_embeddings().num_embeddings
    missing = set(range(rows, len(tokenizer)))
    if not missing:
        return
    if config.use_lora and not _is_whole(model, config.modules_to_save):
        _refuse_untrained(missing - set(added_token_ids(tokenizer, config)), model, tokenizer, config)
    model.resize_token_embeddings(len(tokenizer))


def trained_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: SFTConfig
) -> dict[str, list[int]] | None:
    """Which rows of which layer an adapter trains, as PEFT's ``trainable_token_indices`` takes them.

    An output layer of its own gets the same rows as the embedding, so that the tokens can be said as well as read.

    Raises:
        ModelError: an output layer with a bias, which PEFT would drop.
    """
    ids = added_token_ids(tokenizer, config)
    if not ids:
        return None
    layers = _row_layers(model)
    for name, layer in layers.items():
        if getattr(layer, "bias", None) is not None:
            raise ModelError(
                f"added_tokens: the output layer {name} has a bias, and PEFT leaves it out where rows are trained. "
                f"Train the layers whole: --modules_to_save {' '.join(_leaf(name) for name in layers)}"
            )
    whole = config.modules_to_save or []
    tied = model.get_input_embeddings().weight is _weight(model.get_output_embeddings())
    trained = list(layers)[:1] if tied else list(layers)
    return {name: ids for name in trained if not name.endswith(tuple(whole))} or None


def refuse_frozen_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: SFTConfig) -> None:
    """Full fine-tuning of some layers leaves the rows of added tokens as they began, unless embeddings are among them.

    Raises:
        ModelError: tokens are added and their rows are frozen.
    """
    if not added_token_ids(tokenizer, config):
        return
    frozen = [name for name, layer in _row_layers(model).items() if not layer.weight.requires_grad]
    if frozen:
        raise ModelError(
            f"added_tokens with frozen {' and '.join(frozen)}: the new rows would stay as they began. Train them too: "
            f"--trainable_modules {' '.join(_leaf(name) for name in frozen)}"
        )


def _refuse_untrained(
    ids: set[int], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: SFTConfig
) -> None:
    if not ids:
        return
    layers = [_leaf(name) for name in _row_layers(model)]
    words = [str(tokenizer.convert_ids_to_tokens(number)) for number in sorted(ids)[:8]]
    raise ModelError(
        f"the tokenizer has {len(ids)} tokens that {config.model_name_or_path} has no embedding for "
        f"({', '.join(words)}{', ...' if len(ids) > 8 else ''}). Under LoRA their rows would stay random. Name these "
        f"tokens as added_tokens, which trains their rows; train the layers whole: --modules_to_save "
        f"{' '.join(layers)}; or use the model's own tokenizer."
    )


def _is_whole(model: PreTrainedModel, modules_to_save: Sequence[str] | None) -> bool:
    """Whether the adapter holds every layer that has a row per token; tied ones part, so that it takes both."""
    return all(name.endswith(tuple(modules_to_save or [])) for name in _row_layers(model))


def _row_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The layers with a row per token, by name: the embedding, and the output layer where there is one."""
    names = {id(module): name for name, module in model.named_modules()}
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    return {names[id(layer)]: layer for layer in layers if layer is not None}


def _weight(layer: nn.Module | None) -> object:
    return getattr(layer, "weight", None)


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
