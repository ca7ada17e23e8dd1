"""Prompts for servers that take text only, and put special tokens before it as they see fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sft.errors import GenerationError
from sft.generation.engine import Prompt


def text_for(tokenizer: Any, prompt: Prompt, ids: Sequence[int]) -> str:
    """Text that a server's ``tokenizer(text)`` turns into exactly ``ids``: where it adds the first token, without it.

    Raises:
        GenerationError: there is no such text, as for token ids that text never gives.
    """
    rendered = prompt if isinstance(prompt, str) else str(tokenizer.decode(list(ids), skip_special_tokens=False))
    first = tokenizer.bos_token or ""
    for text in dict.fromkeys((rendered, rendered.removeprefix(first), rendered.removeprefix(first).lstrip(" "))):
        if list(tokenizer(text)["input_ids"]) == list(ids):
            return text
    raise GenerationError(
        f"A prompt of {len(ids)} tokens cannot be sent to a server that takes text only: as text, its tokenizer would "
        f"read other tokens. The prompt begins {rendered[:60]!r}. Use an engine that takes token ids (SGLang, vLLM, or "
        "in-process)."
    )
