"""Families that are followed over short rows: what a long row takes is told from two of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig

from sft.config import SFTConfig
from sft.training.memory.batch import imagined_batch, shortened
from sft.training.memory.estimate import SHORT_ROWS, _trace, reached
from sft.training.memory.skeleton import read_model_config
from sft.training.memory.trace import Conditions, trace_step

ALONE = Conditions(tokenizer=None, strategy="one process", makes_logits=False, half_weights=None, on_accelerator=False)


def test_no_part_of_a_long_row_is_less_than_nothing() -> None:
    """Adapters' gradients, which are there at the shorter row's peak and not at the longer one's, came to -582 KB."""
    low, high = SHORT_ROWS
    late, early = {"activations": 170, "gradients": 118}, {"activations": 548, "gradients": 40}
    found = reached(late, early, high + (high - low))
    assert found == {"activations": 548 + (588 - 288), "gradients": 40}


def test_a_long_row_of_mamba_with_adapters_takes_what_is_told_from_short_ones(tmp_path: Path) -> None:
    """Followed in full, 48 tokens take what two short rows say of them, to a few parts in a hundred."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 4, "vocab_size": 327, "time_step_rank": 4}
    AutoConfig.for_model("mamba", **sizes).save_pretrained(tmp_path)
    config = SFTConfig(
        model_name_or_path=str(tmp_path),
        max_length=48,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=1,
        use_lora=True,
        lora_r=64,
        target_modules=["in_proj", "x_proj"],
    )
    model_config = read_model_config(config)
    batch = imagined_batch(config, batch_size=1)
    told = _trace(config, model_config, batch, None, ALONE).step
    followed = trace_step(config, model_config, shortened(batch, 48), None, ALONE).step
    assert min(told.values()) >= 0
    assert sum(told.values()) == pytest.approx(sum(followed.values()), rel=0.05)
