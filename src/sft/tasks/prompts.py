"""What a tokenizer has to do with the text of a task. LongBench cuts it before the chat template is put around it."""

from __future__ import annotations

from typing import Any

from sft.errors import ConfigError
from sft.tasks.task import Task

WINDOW = 8
"""Characters encoded at either end for each token that may stay."""

MIN_PROMPT_TOKENS = 2
"""Half of less is nothing."""


def cut_middle(text: str, tokenizer: Any, max_tokens: int) -> str:
    """Leave out the middle of a text that is longer than ``max_tokens``, as LongBench does.

    What stays are the first and the last ``int(max_tokens / 2)`` tokens, each half decoded for itself without special
    tokens. The text is counted as the tokenizer encodes it by default, its special tokens included. Of a much longer
    text only a stretch at either end is encoded, at least twice as many tokens as are kept of it: where that stretch
    was cut off cannot be seen so far away.
    """
    if max_tokens < MIN_PROMPT_TOKENS:
        raise ConfigError(f"a prompt of at most {max_tokens} tokens has no room for two halves; allow 2 or more.")
    half = int(max_tokens / 2)
    head, tail = _ends(text, tokenizer, max_tokens)
    if len(head) <= max_tokens:
        return text
    return "".join(tokenizer.decode(part, skip_special_tokens=True) for part in (head[:half], tail[-half:]))


def _ends(text: str, tokenizer: Any, max_tokens: int) -> tuple[list[int], list[int]]:
    """Tokens of the beginning and of the end of a text, more than ``max_tokens`` each; or twice those of all of it."""
    window = WINDOW * max_tokens
    if len(text) > 2 * window:
        head, tail = _encode(text[:window], tokenizer), _encode(text[-window:], tokenizer)
        if min(len(head), len(tail)) > max_tokens:
            return head, tail
    whole = _encode(text, tokenizer)
    return whole, whole


def _encode(text: str, tokenizer: Any) -> list[int]:
    ids: list[int] = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    return ids


def stop_token_ids(task: Task, tokenizer: Any) -> tuple[int, ...]:
    """Tokens that end an answer beside the model's own: that of the line break, where the task says so."""
    if not task.limits.stop_at_newline:
        return ()
    return (int(tokenizer.encode("\n", add_special_tokens=False)[-1]),)
