from __future__ import annotations

import pytest

from sft.config.suggestions import nearest, suggest


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("lerning_rate", "Did you mean learning_rate?"),
        ("max_len", "Did you mean max_length?"),
        ("warmup_ration", "warmup_ratio"),
        ("adam_beta", "adam_beta"),
        ("lora-rank", "lora_r here"),
        ("Cutoff_Len", "max_length here"),
        ("no_packing", "packing: false"),
        ("qqqq", "sft schema"),
    ],
)
def test_suggestions(name: str, part: str) -> None:
    assert part in suggest(name)


def test_nothing_similar_is_no_suggestion() -> None:
    assert nearest("qqqq", ["packing"]) is None
