from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from sft.export.prompts import BUILT_IN_PROMPTS
from sft.export.verify import MAX_PROMPT_TOKENS, allowed_difference, compare_logits, encode_prompts


def test_the_largest_difference_and_the_agreement_are_over_all_positions() -> None:
    reference = [torch.tensor([[1.0, 2.0, 0.0], [5.0, 0.0, 1.0]]), torch.tensor([[0.0, -9.0, 1.0]])]
    other = [torch.tensor([[1.0, 2.5, 0.0], [0.0, 0.5, 1.0]]), torch.tensor([[0.0, -9.0, 1.0]])]
    agreement = compare_logits(reference, other)
    assert agreement.max_logit_difference == 5.0
    assert agreement.top1_agreement == pytest.approx(2 / 3)
    assert agreement.largest_logit == 9.0
    assert (agreement.num_prompts, agreement.num_positions) == (2, 3)


def test_a_logit_that_is_not_a_number_is_no_agreement() -> None:
    broken = compare_logits([torch.zeros(2, 3)], [torch.tensor([[0.0, float("nan"), 0.0]] * 2)])
    assert broken.max_logit_difference == float("inf")


def test_bounds_grow_with_the_logits_and_the_rounding() -> None:
    assert allowed_difference(torch.float32, 5.0) == 1e-4
    assert allowed_difference(torch.float32, 100.0) == pytest.approx(1e-3)
    assert allowed_difference(torch.float16, 20.0) == pytest.approx(0.2)
    assert allowed_difference(torch.bfloat16, 20.0) == pytest.approx(1.0)


def test_prompts_are_asked_with_the_template_where_there_is_one(shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "models" / "qwen3-tokenizer")
    encoded = encode_prompts(tokenizer, BUILT_IN_PROMPTS)
    assert len(encoded) == 16
    for ids, prompt in zip(encoded, BUILT_IN_PROMPTS, strict=True):
        chat = [{"role": "user", "content": prompt}]
        assert ids == tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    stories = AutoTokenizer.from_pretrained(shared_data / "models" / "stories260K-hf")
    assert encode_prompts(stories, ["Tom"]) == [stories.encode("Tom")]
    assert len(encode_prompts(stories, ["word " * 999])[0]) == MAX_PROMPT_TOKENS
