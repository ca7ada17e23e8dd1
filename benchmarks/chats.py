"""What the contestants share of their chats: how long a row may be, and a template whose answers all can mask."""

from __future__ import annotations

from typing import Any

MAX_LENGTH = 512
MARKED_CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' %}{%- generation %}{{- message.content + '<|im_end|>' }}{%- endgeneration %}"
    "{%- else %}{{- message.content + '<|im_end|>' }}{%- endif %}{{- '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def load_tokenizer(folder: str) -> Any:
    """The tokenizer with a template that both programs can mask."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = MARKED_CHATML
    return tokenizer
