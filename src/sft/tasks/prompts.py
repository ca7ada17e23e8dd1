"""What a tokenizer has to do with the text of a task. LongBench cuts it before the chat template is put around it."""

from __future__ import annotations

from typing import Any

from sft.errors import ConfigError
from sft.tasks.task import Task

MIN_PROMPT_TOKENS = 2
"""Half of less is nothing."""


def cut_middle(text: str, tokenizer: Any, max_tokens: int) -> str:
    """Leave out the middle of a text that is longer than ``max_tokens``, as LongBench does.

    What stays are the first and the last ``int(max_tokens / 2)`` tokens, each half decoded for itself without special
    tokens. The text is counted as the tokenizer encodes it by default, its special tokens included.
    """
    if max_tokens < MIN_PROMPT_TOKENS:
        raise ConfigError(f"a prompt of at most {max_tokens} tokens has no room for two halves; allow 2 or more.")
    ids = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    if len(ids) <= max_tokens:
        return text
    half = int(max_tokens / 2)
    return "".join(tokenizer.decode(part, skip_special_tokens=True) for part in (ids[:half], ids[-half:]))


def stop_token_ids(task: Task, tokenizer: Any) -> tuple[int, ...]:
    """Tokens that end an answer beside the model's own: that of the line break, where the task says so."""
    if not task.limits.stop_at_newline:
        return ()
    return (int(tokenizer.encode("\n", add_special_tokens=False)[-1]),)
