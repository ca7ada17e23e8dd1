"""Attention by document against the library's own, in float64 so that nothing hides in rounding."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sft.data.collate import Collator
from sft.data.documents import find_documents
from sft.data.types import Batch, Example, Source
from sft.models import varlen
from sft.models.attention import attend, attend_by_document, uses_documents
from sft.training.loss import summed_loss

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None

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
        "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
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


WINDOWED = {
    "qwen3": {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    "mistral": {"sliding_window": 16},
    "gemma3": {"head_dim": 8, "sliding_window": 9, "layer_types": ["sliding_attention", "full_attention"]},
}


def laid_end_to_end(query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, *limits: Any, **how: Any) -> Tensor:
    """What ``varlen_attn`` is documented to do, by plain attention, one document after the other."""
    assert limits[1:] == (int(cu_seq_q.diff().max()),) * 2
    left, right = how["window_size"]
    assert right == 0
    found = []
    for start, stop in itertools.pairwise(cu_seq_q.tolist()):
        at = torch.arange(stop - start)
        back = at[:, None] - at
        seen = (back >= 0) if left == -1 else (back >= 0) & (back <= left)
        parts = (states[start:stop].transpose(0, 1) for states in (query, key, value))
        one = torch.nn.functional.scaled_dot_product_attention(
            *parts, attn_mask=seen, scale=how["scale"], enable_gqa=how.get("enable_gqa", False)
        )
        found.append(one.transpose(0, 1))
    return torch.cat(found)


def new_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """With the signature that PyTorch has from 2.12 on."""
    how = {"scale": scale, "window_size": window_size, "enable_gqa": enable_gqa}
    return laid_end_to_end(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, **how)


def old_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """Without shared heads of keys."""
    assert key.shape == query.shape
    return laid_end_to_end(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale=scale, window_size=window_size)


def flash(query: Tensor, key: Tensor, value: Tensor, *bounds: Any, **how: Any) -> Tensor:
    """flash-attn's."""
    assert how.pop("causal")
    shares = key.shape[1] != query.shape[1]
    return laid_end_to_end(query, key, value, *bounds, scale=how.pop("softmax_scale"), enable_gqa=shares, **how)


KERNELS = {
    "none": None,
    "pytorch": varlen.by_pytorch(new_varlen),
    "pytorch, repeated heads": varlen.by_pytorch(old_varlen),
    "flash-attn": varlen.by_flash_attn(flash),
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("family", ["llama", *WINDOWED])
def test_windows_and_kernels_that_take_documents_as_they_lie(
    family: str, packed: bool, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ROWS if packed else [[example] for row in ROWS for example in row]
    changes = WINDOWED.get(family, {})
    expected = loss_and_gradients(make_model(family, **changes), Collator(0, packed=packed)(rows))
    model = make_model(family, **changes)
    assert attend_by_document(model, longest=128)
    if KERNELS[kernel] is not None:
        monkeypatch.setattr(varlen, "takes", lambda *_: True)
        monkeypatch.setattr(varlen, "find_kernel", lambda: KERNELS[kernel])
    found = loss_and_gradients(model, Collator(0, packed=packed, by_document=True)(rows))
    torch.testing.assert_close(found[0], expected[0], rtol=1e-6, atol=0)
    for one, other in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_layer_that_hides_its_window_is_refused() -> None:
    module = torch.nn.Module()
    module.config = LlamaConfig(**SHAPE, sliding_window=16)
    states = torch.zeros(1, 2, 4, 8)
    documents = find_documents(4, [(0, 4)])
    with pytest.raises(NotImplementedError, match="does not tell its window"):
        attend(module, states, states, states, None, documents=documents)


def test_pytorchs_kernel_is_found_where_it_can_be_told_scale_and_window() -> None:
    signature = inspect.signature(varlen_attn).parameters if varlen_attn is not None else {}
    assert (varlen.find_kernel() is not None) == ({"scale", "window_size"} <= signature.keys())


@pytest.mark.parametrize("spans", [[], [(0, 5)], [(0, 5), (5, 1), (200, 100)], [(130, 170)]])
def test_pieces_of_a_batch_are_its_documents_and_short_stretches_of_padding(spans: list[tuple[int, int]]) -> None:
    documents = find_documents(300, spans)
    bounds = documents["bounds"].tolist()
    pieces = [(start, stop - start) for start, stop in itertools.pairwise(bounds)]
    assert bounds[0] == 0
    assert bounds[-1] == 300
    assert set(spans) <= set(pieces)
    assert all(length <= 64 for start, length in set(pieces) - set(spans))
    assert documents["longest"] == max(length for _, length in pieces)


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
        ("gemma2", {"head_dim": 8}),
    ],
    ids=["other kernel", "capped"],
)
def test_what_it_does_not_mean_the_same_for_stays_with_the_library(family: str, changes: dict[str, Any]) -> None:
    model = make_model(family, **changes)
    assert not attend_by_document(model, longest=128)
    assert not uses_documents(model)
