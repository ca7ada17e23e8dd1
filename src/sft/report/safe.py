"""Text of data and models, made harmless before it comes near a page."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from markupsafe import Markup

LONGEST = 4000
"""Characters of a text that are shown unless more are asked for."""

HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
"""Control codes, marks that turn text around, invisible tags, halves of surrogate pairs. Tabs and line breaks stay."""

IN_SCRIPTS = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def visible(text: str) -> str:
    """The text with everything that acts instead of showing written out, as ⟨U+202E⟩."""
    return HIDDEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text.replace("\r\n", "\n").replace("\r", "⟨U+000D⟩"))


def cut(text: str, limit: int = LONGEST) -> str:
    """A text of at most about ``limit`` characters: its head and its end, and between them how much is left out."""
    if len(text) <= limit:
        return text
    head, end = limit * 2 // 3, limit // 3
    return f"{text[:head]} […{len(text) - head - end:,} characters left out…] {text[len(text) - end :] if end else ''}"


def shown(text: str, limit: int = LONGEST) -> str:
    """Cut, then visible: what a page shows of any text."""
    return visible(cut(text, limit))


def finite(value: Any) -> Any:
    """The same value with None where a number is none, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def script_json(value: Any) -> Markup:
    """JSON that cannot end, or begin, anything where it stands inside a script element."""
    text = json.dumps(finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(visible_surrogates(text).translate(IN_SCRIPTS))


def visible_surrogates(text: str) -> str:
    """Without halves of surrogate pairs, which no file can hold."""
    return re.sub("[\ud800-\udfff]", lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)
