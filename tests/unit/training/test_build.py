"""The objects of a run fit each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from sft.config import SFTConfig
from sft.errors import ConfigError, ModelError
from sft.training.build_model import build_model
from sft.training.questions import read_questions


def test_added_tokens_get_rows_and_lora_must_train_them(tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.add_tokens(["<call>", "</call>"])
    full = build_model(SFTConfig(model_name_or_path=str(tiny_model_folder)), tokenizer)
    assert full.get_input_embeddings().num_embeddings == len(tokenizer)
    with pytest.raises(ModelError, match=r"2 tokens .* --modules_to_save embed_tokens lm_head"):
        build_model(SFTConfig(model_name_or_path=str(tiny_model_folder), use_lora=True), tokenizer)


def test_a_target_that_is_not_there_is_named_with_those_that_are(tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    config = SFTConfig(model_name_or_path=str(tiny_model_folder), use_lora=True, target_modules=["q_proj", "query"])
    with pytest.raises(ModelError, match=r"query not found.*down_proj, gate_proj"):
        build_model(config, tokenizer)


def test_questions_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("What is 1 + 1?\n\n  Why?  \n", encoding="utf-8")
    assert read_questions(str(path)) == ["What is 1 + 1?", "Why?"]
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds no question"):
        read_questions(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_questions(str(tmp_path / "absent.txt"))
