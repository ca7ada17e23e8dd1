from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import GenerationConfig

from sft.export.generation_config import generation_config_for
from sft.generation.stop_tokens import as_token_ids, own_stop_tokens

TOKENIZER = SimpleNamespace(pad_token_id=7, eos_token_id=2)


def model_with(eos: Any, config_eos: Any = None, **values: Any) -> Any:
    return SimpleNamespace(
        generation_config=GenerationConfig(eos_token_id=eos, **values), config=SimpleNamespace(eos_token_id=config_eos)
    )


@pytest.mark.parametrize(
    ("own", "trained", "expected"),
    [(2, [], 2), (2, [9], [2, 9]), ([2, 9], [9], [2, 9]), ([9, 2], [5, 9], [9, 2, 5]), (None, [2], 2)],
)
def test_stops_are_the_models_own_and_the_trained_ones(own: Any, trained: list[int], expected: Any) -> None:
    model = model_with(own)
    config = generation_config_for(model, TOKENIZER, trained)
    assert config.eos_token_id == expected
    assert config.pad_token_id == 7
    assert model.generation_config.eos_token_id == own


def test_a_model_without_a_word_on_stops_has_its_configs_then_its_tokenizers() -> None:
    assert own_stop_tokens(model_with(None, config_eos=[4, 4, 5]), TOKENIZER) == (4, 5)
    assert own_stop_tokens(model_with(None), TOKENIZER) == (2,)
    assert own_stop_tokens(model_with(None), SimpleNamespace(eos_token_id=None)) == ()
    assert as_token_ids(None) == ()


def test_without_a_pad_token_a_stop_token_pads() -> None:
    config = generation_config_for(model_with(2), SimpleNamespace(pad_token_id=None, eos_token_id=2), [9])
    assert config.pad_token_id == 2


@pytest.mark.filterwarnings("ignore")
def test_a_published_config_that_transformers_would_not_write_is_made_writable(tmp_path: Path) -> None:
    """Llama 2 ships sampling values without do_sample."""
    model = model_with(2, temperature=0.6, top_p=0.9)
    with pytest.raises(ValueError, match="do_sample"):
        GenerationConfig(eos_token_id=2, temperature=0.6).save_pretrained(tmp_path)
    config = generation_config_for(model, TOKENIZER, [3])
    config.save_pretrained(tmp_path)
    loaded = GenerationConfig.from_pretrained(tmp_path)
    assert (loaded.do_sample, loaded.temperature, loaded.eos_token_id) == (True, 0.6, [2, 3])
