"""Added tokens that no training example holds: their rows cannot learn."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.store import ExampleStore
from sft.models.added_tokens import added_token_ids


def unseen_tokens(config: SFTConfig, tokenizer: PreTrainedTokenizerBase, examples: ExampleStore) -> list[str]:
    """One note, where there are such tokens."""
    ids = added_token_ids(tokenizer, config)
    unseen = sorted(set(ids) - examples.tokens_among(ids)) if ids else []
    if not unseen:
        return []
    words = ", ".join(str(tokenizer.convert_ids_to_tokens(token)) for token in unseen)
    return [
        f"no training example holds the added token{'s' if len(unseen) > 1 else ''} {words}: nothing is learnt there"
    ]
