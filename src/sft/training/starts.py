"""How a run was started, and how often: the words of the command, and the steps at which it was gone on with."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from sft.config.secrets import NAMES, SHAPES

HIDDEN = "***"


def describe_command() -> dict[str, Any]:
    """The words that started this process, without secrets, and the folder they were typed in.

    A notebook has no such words.
    """
    words = [] if "ipykernel" in sys.modules else without_secrets(sys.orig_argv)
    return {"words": words, "folder": os.getcwd()}


def without_secrets(words: Sequence[str]) -> list[str]:
    """The words with what has the shape, or the name, of a secret hidden."""
    hidden: list[str] = []
    before = ""
    for word in words:
        name, sign, _ = word.partition("=")
        if sign and _names_secret(name):
            word = f"{name}={HIDDEN}"
        elif before.startswith("-") and _names_secret(before) and not word.startswith("-"):
            word = HIDDEN
        for shape in SHAPES.values():
            word = shape.sub(HIDDEN, word)
        hidden.append(word)
        before = "" if sign else word
    return hidden


def starts_of(earlier: Mapping[str, Any] | None, step: int) -> list[dict[str, Any]]:
    """Every start of this run so far, with its step and time; a run that begins at step 0 forgets those before.

    Args:
        earlier: ``run.json`` of the start before.
    """
    before = (earlier or {}).get("starts") if step else None
    kept = [one for one in before if isinstance(one, dict)] if isinstance(before, list) else []
    return [*kept, {"step": step, "time": datetime.now(timezone.utc).isoformat(timespec="seconds")}]


def _names_secret(name: str) -> bool:
    return NAMES.search(name.lstrip("-").replace("-", "_").lower()) is not None
