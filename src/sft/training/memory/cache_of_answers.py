"""What answers take while a model generates them: keys and values of every token in a batch."""

from __future__ import annotations

from typing import Any

from sft.config import SFTConfig
from sft.generation.in_process import MAX_BATCH_TOKENS, MAX_ROWS
from sft.models.precision import dtype_of


def generation_bytes(config: SFTConfig, model_config: Any) -> int:
    """Of answers by this process, beside the weights; 0 where none are generated here.

    A family whose attention keeps something else is counted as if it kept keys and values.
    """
    asks_here = bool(config.eval_tasks) and config.eval_engine == "in_process"
    if not asks_here and config.gen_questions_file is None:
        return 0
    text = model_config.get_text_config()
    heads = getattr(text, "num_attention_heads", 0)
    size = getattr(text, "head_dim", None) or getattr(text, "hidden_size", 0) // max(1, heads)
    kept = getattr(text, "num_key_value_heads", None) or heads
    wide = getattr(dtype_of(config), "itemsize", 2)
    tokens = MAX_BATCH_TOKENS if asks_here else MAX_ROWS * (config.max_length + config.gen_max_new_tokens)
    cache = 2 * text.num_hidden_layers * kept * size * wide * min(tokens, MAX_BATCH_TOKENS)
    logits = MAX_ROWS * text.vocab_size * 4
    return int(cache + logits)
