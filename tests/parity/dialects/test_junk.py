"""A dialect never raises: whatever stands in the place of a value, the answer is a note or a ConfigError."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sft.config import RawValue, SFTConfig
from sft.dialects import translate
from sft.errors import ConfigError

HERE = Path(__file__).parent
JUNK: tuple[Any, ...] = (
    None, "", 0, -1, 2.5, True, "x", "1e-4", [], ["a"], [1], [{}], [None], {}, {"a": 1},
    {"datasets": "x"}, float("inf"),
    {"datasets": [{"id": 3, "columns": 5, "weight": "x", "data_files": 3}]}, [{"path": "p", "type": {"format": 3}}],
)  # fmt: skip


def with_junk(values: dict[str, Any], junk: Any) -> Iterator[dict[str, Any]]:
    """The values with junk in the place of each of them, and of each value within a mapping or a list of mappings."""
    for key, value in values.items():
        yield {**values, key: junk}
        if isinstance(value, dict):
            yield from ({**values, key: inner} for inner in with_junk(value, junk))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from ({**values, key: [inner, *value[1:]]} for inner in with_junk(value[0], junk))


def varied(file: str, dialect: str) -> list[dict[str, Any]]:
    """As few files as hold every key."""
    seen: set[str] = set()
    chosen = []
    for line in (HERE / file).read_text(encoding="utf-8").splitlines():
        values = json.loads(line)["values"]
        if not values.keys() <= seen:
            seen |= values.keys()
            chosen.append(values)
    extra: dict[str, dict[str, Any]] = {
        "trl": {"datasets": [{"path": "p", "name": "n", "fraction": 1}], "model_init_kwargs": {"dtype": "x"}},
        "axolotl": {
            "optim_args": {"a": 1},
            "chat_template_jinja": "x",
            "cosine_min_lr_ratio": 0.1,
            "excess_length_strategy": "drop",
            "datasets": [
                {
                    "path": "p",
                    "type": "chat_template",
                    "roles": {"assistant": ["bot"]},
                    "roles_to_train": ["assistant"],
                    "shards": 2,
                    "data_files": ["x"],
                    "chat_template": "gemma",
                },
            ],
        },
    }
    return [*chosen, {**chosen[0], **extra[dialect]}]


@pytest.mark.parametrize(("file", "dialect"), [("trl.jsonl", "trl"), ("axolotl.jsonl", "axolotl")])
def test_junk_is_refused_and_never_an_error_of_ours(file: str, dialect: str) -> None:
    seen: set[str] = set()
    for values in varied(file, dialect):
        for junk in JUNK:
            for changed in with_junk(values, junk):
                different = next((key for key in values if changed[key] is not values[key]), "")
                told = json.dumps([different, changed.get(different)], default=str)
                if told in seen:
                    continue
                seen.add(told)
                translation = translate({key: RawValue(value, "f:1") for key, value in changed.items()}, dialect)
                if different in ("datasets", "special_tokens", "lr_scheduler_kwargs"):
                    with contextlib.suppress(ConfigError):
                        SFTConfig(**translation.values)
    assert len(seen) > 500
