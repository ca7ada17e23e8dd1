"""Chat templates that sft ships, as .jinja files, and small changes to template text.

Every template is a plain Jinja chat template: it can be put into any tokenizer and used without sft. An answer ends
with ``eos_token`` or the family's end-of-turn token, and the generation prompt is the untrained head of an answer.
Which names there are, and what each needs, stands in ``catalogue.py``.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sft.data.templates.catalogue import OTHERS, OTHERS_IMAGES, SHIPPED
from sft.errors import ConfigError

FOLDER = Path(__file__).resolve().parent


def template_names() -> tuple[str, ...]:
    """Names of the shipped templates, in alphabetical order. Several names may share a text."""
    return tuple(sorted(SHIPPED))


def describe_templates() -> dict[str, str]:
    """Each name, and whose text it is."""
    return {name: SHIPPED[name].about for name in template_names()}


def needed_tokens(template: str) -> tuple[str, ...]:
    """Texts that a shipped template writes and that must be single tokens; none for a file or text."""
    return SHIPPED[template].needs if template in SHIPPED else ()


def begins_as_the_tokenizer_does(template: str) -> bool:
    """Whether it is the tokenizer's habit, not the template, that decides about a ``bos_token`` before the text."""
    return template in SHIPPED and SHIPPED[template].bos == "habit"


def read_template(template: str) -> str:
    """Return template text for a shipped name, a file, or template text itself.

    Raises:
        ConfigError: it is none of the three.
    """
    if template in SHIPPED:
        return _shipped_text(template)
    if "{{" in template or "{%" in template:
        return template
    path = Path(template).expanduser()
    if path.is_file():
        return path.read_text(encoding="utf-8")
    raise ConfigError(
        f"chat_template: {template!r} is no template that sft ships, no file and no template text. {_advice(template)}"
        f"Shipped: {', '.join(template_names())}."
    )


def is_left_to_tokenizer(name: str) -> bool:
    """Whether other tools have a template of this name that sft does not ship, for models that bring their own."""
    return name in OTHERS or name in OTHERS_IMAGES


def _shipped_text(name: str) -> str:
    shipped = SHIPPED[name]
    text = (FOLDER / f"{shipped.file}.jinja").read_text(encoding="utf-8")
    text = with_default_kwargs(text, shipped.variables) if shipped.variables else text
    return with_bos(text) if shipped.bos == "first" else text


def _advice(name: str) -> str:
    own = "Leave chat_template out, so that the vendor's template, which such a model's tokenizer brings, is used. "
    if name == "firefly_mamba":
        return (
            "Firefly's fork ended Mamba's answers with the text </s>, which is no token of Mamba's tokenizer, so that "
            "no answer could end. Take mamba, the same text ended by eos_token. "
        )
    if name in OTHERS_IMAGES:
        return f"Other tools have it for models with images, video or sound; sft trains on text. {own}"
    if name in OTHERS:
        return f"Other tools have it, sft has no file for it. {own}"
    near = difflib.get_close_matches(name, template_names(), n=1)
    return f"Did you mean {near[0]}? " if near else ""


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
