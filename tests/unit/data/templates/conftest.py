"""A tokenizer that has every token the shipped templates need."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sft.data.templates import needed_tokens, read_template, template_names

EXTRA = ("<unk>", "[TOOL_CALLS]", "<|tool|>", "<|/tool|>", "<|tool_call|>", "<|/tool_call|>", "<|tool_response|>")


@pytest.fixture(scope="session")
def tokenizer_of(new_tokenizer: Any) -> Callable[[str], Any]:
    """Gives a byte-level tokenizer with bos ``<s>``, eos ``</s>``, every needed token, and one template."""
    needed = sorted({token for name in template_names() for token in needed_tokens(name)})
    base = new_tokenizer(None, special=("<s>", "</s>", *EXTRA, *needed), bos="<s>", eos="</s>")

    def give(name: str) -> Any:
        tokenizer = copy.copy(base)
        tokenizer.chat_template = read_template(name)
        return tokenizer

    return give
