from __future__ import annotations

from pathlib import Path

import pytest

from sft.config import SFTConfig, load_config
from sft.config.suggestions import nearest, suggest
from sft.errors import ConfigError


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
        ("modle", "Did you mean model, as other tools have it? That is model_name_or_path here."),
        ("batch_sze", "That is per_device_train_batch_size here."),
        ("qqqq", "sft schema"),
    ],
)
def test_suggestions(name: str, part: str) -> None:
    assert part in suggest(name)


def test_a_slip_in_python_and_in_a_file_is_answered_alike(tmp_path: Path) -> None:
    """In both it was only said that there is no such option."""
    file = tmp_path / "a.yaml"
    file.write_text("modle: m\n", encoding="utf-8")
    for attempt in (lambda: SFTConfig(modle="m"), lambda: load_config(file)):
        with pytest.raises(ConfigError, match=r"^modle.* is no option\. Did you mean model, .* model_name_or_path"):
            attempt()


def test_nothing_similar_is_no_suggestion() -> None:
    assert nearest("qqqq", ["packing"]) is None
