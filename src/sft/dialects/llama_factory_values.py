"""Values as LLaMA-Factory's files write them, and what they mean."""

from __future__ import annotations

from typing import Any

from sft.config.values import FALSE_WORDS, TRUE_WORDS
from sft.dialects.translation import Values


def stage_of(values: Values) -> str:
    """Their word for the stage: sft unless the file says another."""
    return str(values["stage"].value) if "stage" in values and values["stage"].value else "sft"


def method_of(values: Values) -> str:
    """Their word for the method: lora unless the file says another."""
    given = values.get("finetuning_type")
    return str(given.value) if given is not None and given.value else "lora"


def listed(value: Any) -> list[str]:
    """A list, or text with commas, as a list of texts."""
    parts = value if isinstance(value, list) else str(value).split(",")
    return [str(part).strip() for part in parts if str(part).strip()]


def word_of(value: Any) -> str:
    return str(value).lower()


def number(value: Any) -> float | None:
    if isinstance(value, bool) or word_of(value) in (*TRUE_WORDS[:3], *FALSE_WORDS[:3]):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
