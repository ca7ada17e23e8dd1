"""Our loss against transformers' own, whatever the padding, packing and head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from sft.data.collate import Collator
from sft.data.types import Example, Source
from sft.models.attention import attend_by_document
from sft.training.head_loss import LogitForm
from sft.training.loss import summed_loss

# fp32: observed at most 2e-7 relative
CLOSE = {"rtol": 2e-6, "atol": 0}


def make(length: int, seed: int, weights: list[float] | None = None) -> Example:
    rng = np.random.default_rng(seed)
    mask = (rng.random(length) < 0.5).astype(np.uint8)
    mask[0], mask[-1] = 0, 1
    return Example(
        input_ids=rng.integers(3, 300, length, dtype=np.int32),
        loss_mask=mask,
        weights=None if weights is None else np.resize(np.array(weights, np.float32), length),
        text="",
        source=Source("made", seed),
    )


def reference(model: Any, example: Example) -> tuple[torch.Tensor, int]:
    """transformers' own loss on one unpadded example, as a sum."""
    ids = torch.tensor(example.input_ids[None].astype(np.int64))
    labels = torch.where(torch.tensor(example.loss_mask[None].astype(bool)), ids, -100)
    trained = int((labels[:, 1:] != -100).sum())
    return model(input_ids=ids, labels=labels).loss * trained, trained


def tiny_gpt2() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=64)).eval()


def tiny_gemma2() -> Any:
    torch.manual_seed(0)
    return Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=300,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            final_logit_softcapping=5.0,
        )
    ).eval()


@pytest.mark.parametrize("family", [tiny_gpt2, tiny_gemma2])
def test_the_sum_and_its_gradient_equal_transformers_own(family: Any) -> None:
    model = family()
    example = make(40, seed=1)
    expected, trained = reference(model, example)
    batch = Collator(0, packed=False)([[example]])
    assert batch["num_trained"] == trained
    found, outputs = summed_loss(model.get_output_embeddings(), model, batch)
    assert outputs.logits.shape == (trained, model.config.vocab_size)
    torch.testing.assert_close(found, expected, **CLOSE)

    weight = model.get_input_embeddings().weight
    (expected_gradient,) = torch.autograd.grad(expected, weight)
    (gradient,) = torch.autograd.grad(found, weight)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_padding_and_packing_change_nothing(tiny_model_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder).eval()
    head = model.get_output_embeddings()
    examples = [make(length, seed) for seed, length in enumerate([7, 31, 12, 2])]
    expected = sum(reference(model, example)[0] for example in examples)
    padded, _ = summed_loss(head, model, Collator(0, packed=False)([[example] for example in examples]))
    packed, _ = summed_loss(head, model, Collator(0, packed=True)([examples[:3], examples[3:]]))
    torch.testing.assert_close(padded, expected, **CLOSE)
    torch.testing.assert_close(packed, expected, **CLOSE)


def test_a_weight_counts_as_so_many_tokens(tiny_model_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder).eval()
    head = model.get_output_embeddings()
    plain, _ = summed_loss(head, model, Collator(0, packed=False)([[make(20, 3)]]))
    double, _ = summed_loss(head, model, Collator(0, packed=False, weighted=True)([[make(20, 3, [2.0])]]))
    torch.testing.assert_close(double, 2 * plain, **CLOSE)


def test_a_batch_without_labels_gives_zero_and_zero_gradients(tiny_model_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    loss, _ = summed_loss(model.get_output_embeddings(), model, Collator(0, packed=False)([[]]))
    loss.backward()
    assert loss.item() == 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def cut_off(example: Example) -> Example:
    """Without what follows its last trained token."""
    return example.head(int(np.flatnonzero(example.loss_mask)[-1]) + 1)


def with_tail(example: Example, length: int) -> Example:
    """With untrained tokens behind it."""
    ids = np.concatenate([example.input_ids, np.arange(3, 3 + length, dtype=np.int32)])
    mask = np.concatenate([example.loss_mask, np.zeros(length, np.uint8)])
    return Example(input_ids=ids, loss_mask=mask, text="", source=example.source)


@pytest.mark.parametrize("by_document", [False, True])
def test_packed_rows_without_their_tails_learn_what_examples_learn_alone(
    tiny_model_folder: Path, by_document: bool
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    head = model.get_output_embeddings()
    if by_document:
        assert attend_by_document(model, longest=100)
    examples = [with_tail(make(length, seed), seed) for seed, length in enumerate([7, 31, 12, 2, 19])]

    def learn(rows: list[list[Example]]) -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        form = LogitForm() if by_document else None
        loss = summed_loss(head, model, Collator(0, packed=True, by_document=by_document)(rows), form)[0]
        loss.backward()
        return loss.item(), [weight.grad.clone() for weight in model.parameters()]

    model.zero_grad()
    alone = sum(reference(model, example)[0] for example in examples)
    alone.backward()
    expected = [weight.grad.clone() for weight in model.parameters()]
    shortened = [cut_off(example) for example in examples]
    loss, gradients = learn([shortened[:3], shortened[3:]])
    assert loss == pytest.approx(alone.item(), rel=1e-6)
    for found, wanted in zip(gradients, expected, strict=True):
        assert (found - wanted).norm() <= 1e-5 * wanted.norm()
