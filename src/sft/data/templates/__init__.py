"""Chat templates that sft ships, as .jinja files, and small changes to template text.

Every template is a plain Jinja chat template: it can be put into any tokenizer and used without sft. An answer ends
with ``eos_token`` or the family's end-of-turn token, and the generation prompt is the untrained head of an answer.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft.errors import ConfigError

FOLDER = Path(__file__).resolve().parent

WITHOUT_BOS = frozenset({"alpaca", "chatml", "default", "instruction", "vicuna", "zephyr"})
"""Templates that belong to no one family: whether a text begins with ``bos_token`` is the tokenizer's habit."""


def template_names() -> tuple[str, ...]:
    """Names of the shipped templates, in alphabetical order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.jinja")))


def read_template(template: str) -> str:
    """Return template text for a shipped name, a file, or template text itself.

    Raises:
        ConfigError: it is none of the three.
    """
    if template in template_names():
        return (FOLDER / f"{template}.jinja").read_text(encoding="utf-8")
    if "{{" in template or "{%" in template:
        return template
    path = Path(template).expanduser()
    if path.is_file():
        return path.read_text(encoding="utf-8")
    near = difflib.get_close_matches(template, template_names(), n=1)
    advice = f"Did you mean {near[0]}? " if near else ""
    raise ConfigError(
        f"chat_template: {template!r} is no template that sft ships, no file and no template text. {advice}"
        f"Shipped: {', '.join(template_names())}."
    )


def with_default_kwargs(template: str, kwargs: Mapping[str, Any]) -> str:
    """Give template variables a default: rendered without them, the text is what the old one writes with them.

    The prompt that answers were trained after is then what every caller of the saved template gets.
    """
    lines = [
        f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(value)} %}}{{%- endif %}}\n"
        for name, value in kwargs.items()
    ]
    return "".join(lines) + template


def with_bos(template: str) -> str:
    """Begin every text with the tokenizer's ``bos_token``; for shipped templates, which all begin with a tag."""
    return "{{- bos_token }}" + template


def _literal(value: Any) -> str:
    """A JSON value as a Jinja expression."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
