"""Attention by document against the library's own, in float64 so that nothing hides in rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from sft.data.collate import Collator
from sft.data.types import Batch, Example, Source
from sft.models.attention import attend_by_document, uses_documents
from sft.training.loss import summed_loss

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def make_model(family: str = "qwen3", **changes: Any) -> Any:
    torch.manual_seed(0)
    config, model = {
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
        "gemma2": (Gemma2Config, Gemma2ForCausalLM),
    }[family]
    return model(config(**{**SHAPE, **changes})).double().eval()


def make_example(length: int, seed: int) -> Example:
    rng = np.random.default_rng(seed)
    ids = rng.integers(3, 300, length, dtype=np.int32)
    return Example(input_ids=ids, loss_mask=np.ones(length, np.uint8), text="", source=Source("made", seed))


ROWS = [
    [make_example(length, seed) for seed, length in enumerate(lengths)]
    for lengths in ([1, 30, 17, 64], [100], [], [5, 5, 5, 33, 2])
]


def loss_and_gradients(model: Any, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    loss, _ = summed_loss(model.get_output_embeddings(), model, batch)
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_a_batch_has_the_loss_and_gradients_of_the_librarys_masks(
    family: str, packed: bool, checkpointing: bool
) -> None:
    rows = ROWS if packed else [[example] for row in ROWS for example in row]
    expected = loss_and_gradients(make_model(family), Collator(0, packed=packed)(rows))
    model = make_model(family)
    assert attend_by_document(model, longest=128)
    if checkpointing:
        model.train()
        model.activation_checkpointing_enable({"use_reentrant": False})
    found = loss_and_gradients(model, Collator(0, packed=packed, by_document=True)(rows))
    torch.testing.assert_close(found[0], expected[0], rtol=1e-6, atol=0)  # cross-entropy itself is in float32
    for one, other in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_packed_rows_are_isolated_to_the_last_bit_of_float64() -> None:
    model = make_model()
    attend_by_document(model, longest=128)
    collate = Collator(0, packed=True, by_document=True)
    inputs = {
        name: value for name, value in collate(ROWS).items() if name in ("input_ids", "position_ids", "documents")
    }
    alone = collate([[ROWS[0][3]]])
    with torch.no_grad():
        packed = model.model(**inputs).last_hidden_state[0, 48:112]
        single = model.model(input_ids=alone["input_ids"]).last_hidden_state[0]
    torch.testing.assert_close(packed, single, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_a_batch_of_empty_rows_has_no_loss_and_no_gradient(packed: bool) -> None:
    """A process gets one where the rows of an epoch do not suffice for all."""
    model = make_model()
    attend_by_document(model, longest=128)
    loss, gradients = loss_and_gradients(model, Collator(0, packed=packed, by_document=True)([[], []]))
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients)


def test_generation_goes_on_as_before() -> None:
    plain, ours = make_model(), make_model()
    attend_by_document(ours, longest=128)
    ids = torch.tensor([[0, 0, 7, 8, 9], [3, 4, 5, 6, 7]])
    asked = {"input_ids": ids, "attention_mask": (ids > 0).long(), "max_new_tokens": 12, "do_sample": False}
    assert torch.equal(ours.generate(**asked, pad_token_id=0), plain.generate(**asked, pad_token_id=0))


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("qwen3", {"attn_implementation": "eager"}),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 0}),
        ("gemma2", {"head_dim": 8}),
    ],
    ids=["other kernel", "window", "capped"],
)
def test_what_it_does_not_mean_the_same_for_stays_with_the_library(family: str, changes: dict[str, Any]) -> None:
    model = make_model(family, **changes)
    assert not attend_by_document(model, longest=128)
    assert not uses_documents(model)
