"""Second hop: from a row to a conversation, one small file a format.

A converter never changes text. It either keeps all that the row says or raises a RowError with a short reason.
"""

from __future__ import annotations

from collections.abc import Callable

from sft.data.formats.alpaca import convert_alpaca
from sft.data.formats.custom import convert_custom
from sft.data.formats.detect import HEAD_ROWS, Detection, check_columns_exist, detect_format
from sft.data.formats.messages import convert_messages
from sft.data.formats.options import FormatOptions
from sft.data.formats.preference import PAIR_FORMATS, detect_pairs
from sft.data.formats.prompt_completion import convert_prompt_completion
from sft.data.formats.sharegpt import convert_sharegpt
from sft.data.formats.text import convert_text
from sft.data.formats.tokens import convert_tokens
from sft.data.types import Conversation, Row

__all__ = [
    "FORMATS",
    "HEAD_ROWS",
    "PAIR_FORMATS",
    "Detection",
    "FormatOptions",
    "check_columns_exist",
    "detect_format",
    "detect_pairs",
]

FORMATS: dict[str, Callable[[Row, FormatOptions], Conversation]] = {
    "alpaca": convert_alpaca,
    "sharegpt": convert_sharegpt,
    "messages": convert_messages,
    "prompt_completion": convert_prompt_completion,
    "text": convert_text,
    "custom": convert_custom,
    "tokens": convert_tokens,
}
