"""Added tokens that no training example holds: their rows cannot learn."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.store import ExampleStore
from sft.models.added_tokens import added_token_ids
from sft.training.launch import announce


def tell_unseen_tokens(config: SFTConfig, tokenizer: PreTrainedTokenizerBase, examples: ExampleStore) -> None:
    """One note, where there are such tokens."""
    ids = added_token_ids(tokenizer, config)
    unseen = sorted(set(ids) - examples.tokens_among(ids)) if ids else []
    if unseen:
        plural = "s" if len(unseen) > 1 else ""
        words = ", ".join(str(tokenizer.convert_ids_to_tokens(token)) for token in unseen)
        announce(f"note: no training example holds the added token{plural} {words}: nothing is learnt there")
