"""Tokens, keys and passwords do not belong into a configuration: it is kept in run.json, in trackers and in shells.

They are refused wherever they stand, by the published shapes of tokens, and the message does not repeat them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sft.config.values import RawValue
from sft.errors import ConfigError

SHAPES: Mapping[str, re.Pattern[str]] = {
    "a Hugging Face token": re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
    "a GitLab token": re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"),
    "an API key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a Google key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
    "a Slack token": re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    "a W&B key": re.compile(r"\bwandb_v1_[A-Za-z0-9_-]{20,}"),
    "a signed web token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "a bearer token": re.compile(r"\b[Bb]earer\s+[A-Za-z0-9._~+/-]{16,}"),
    "a password in an address": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/@]+@"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}
NAMES = re.compile(r"(?:^|_)(?:api_?key|access_?key|secret(?:_key)?|password|passwd|(?:hub|hf|auth|access|api)_token)$")
"""Names whose value is a secret whatever its shape."""

ADVICE = (
    "It would be kept in run.json and sent to trackers. Take it out, change it where it was issued if this file or "
    "command was shared, and give it in the environment (HF_TOKEN, WANDB_API_KEY), or log in with `hf auth login`"
)


def refuse_secrets(values: Mapping[str, RawValue]) -> None:
    """Refuse values that hold a secret, at any depth.

    Raises:
        ConfigError: naming the options, their places and the kinds of secret, not the secrets.
    """
    found = [
        f"{name} ({raw.origin}) holds {kind}. {ADVICE}."
        for name, raw in values.items()
        for kind in dict.fromkeys(_secrets_in(name, raw.value))
    ]
    if found:
        raise ConfigError(found)


def without_secrets(text: str) -> str:
    """A text in which each secret is replaced by what it is. For words that come from elsewhere: a library's error."""
    for kind, shape in SHAPES.items():
        text = shape.sub(f"[{kind}]", text)
    return text


def _secrets_in(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets_in(str(key), item)
            yield from _secrets_in("", key)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets_in(name, item)
    elif isinstance(value, str):
        kind = next((kind for kind, shape in SHAPES.items() if shape.search(value)), None)
        if kind is not None:
            yield kind
        elif NAMES.search(name.lower()) and len(value) >= 8:
            yield "a secret, by its name"
