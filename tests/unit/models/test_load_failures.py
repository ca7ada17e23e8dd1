"""A model that cannot be loaded: what was looked for, what is there, what to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from sft.errors import ModelError
from sft.models.load import explain_load_failure, load_model


def test_a_path_that_leads_nowhere_is_no_matter_of_the_hub(tmp_path: Path) -> None:
    """The hub's rules for names would be all that is said of a folder that was misspelt."""
    (tmp_path / "models" / "qwen-lora").mkdir(parents=True)
    with pytest.raises(ModelError) as told:
        load_model(str(tmp_path / "models" / "qwen-lore"))
    said = str(told.value)
    assert f"the folder '{tmp_path / 'models'}' comes near with qwen-lora." in said
    assert "hub" not in said.lower()
    assert "Repo id" not in said
    with pytest.raises(ModelError, match=rf"the folder '{tmp_path}' holds: models\."):
        load_model(str(tmp_path / "weights" / "x"))


def test_a_name_of_the_hub_may_hold_dots() -> None:
    said = explain_load_failure("model", "Qwen/Qwen2.5-1.5B", OSError("no connection"))
    assert said.endswith("so it was looked up as a name on the Hugging Face hub. no connection")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    said = explain_load_failure("model", str(tmp_path / "model.safetensors"), OSError("reason"))
    assert said.endswith("This is a file. Name the folder that it lies in. reason")


def test_attention_that_needs_a_gpu_is_not_blamed_on_the_folder(tiny_model_folder: Path) -> None:
    """Where flash-attn is there, the machine without a GPU is what is wrong; either way the option is."""
    with pytest.raises(ModelError, match="Leave attn_implementation out, or give sdpa") as told:
        load_model(str(tiny_model_folder), attn_implementation="flash_attention_2")
    assert "FlashAttention2" in str(told.value)
    assert "The folder holds" not in str(told.value)
