"""The one-pass loss against the logits of the model itself: values, gradients, what is done to logits on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from sft.data.collate import Collator
from sft.data.types import Batch, Example, Source
from sft.models.attention import attend_by_document
from sft.training import head_loss
from sft.training.head_loss import LogitForm, cross_entropy, find_form, is_plain_linear
from sft.training.loss import summed_loss
from sft.training.token_figures import TokenFigures

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
}

FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=64)),
    "capped": lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=16, final_logit_softcapping=5.0)),
    "scaled": lambda: CohereForCausalLM(CohereConfig(**SHAPE, logit_scale=0.0625)),
    "divided": lambda: GraniteForCausalLM(GraniteConfig(**SHAPE, logits_scaling=8.0)),
    "bias": lambda: PhiForCausalLM(PhiConfig(**SHAPE)),
}


def make_model(family: str) -> Any:
    torch.manual_seed(0)
    return FAMILIES[family]().eval()


def make_example(length: int, seed: int, *, weighted: bool = True) -> Example:
    rng = np.random.default_rng(seed)
    mask = (rng.random(length) < 0.5).astype(np.uint8)
    mask[0], mask[-1] = 0, 1
    return Example(
        input_ids=rng.integers(3, 300, length, dtype=np.int32),
        loss_mask=mask,
        weights=rng.random(length).astype(np.float32) if weighted else None,
        text="",
        source=Source("made", length),
    )


def make_batch(weights: bool = False) -> Batch:
    rows = [[make_example(length, length, weighted=weights)] for length in (40, 25, 7)]
    return Collator(0, packed=False, weighted=weights)(rows)


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("weights", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_all_gradients_equal_those_of_the_models_logits(
    family: str, weights: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_loss, "BUFFER_BYTES", {"cpu": 0})
    monkeypatch.setattr(head_loss, "FEWEST_POSITIONS", 7)  # several chunks, the last one smaller
    model, batch = make_model(family), make_batch(weights)
    head = model.get_output_embeddings()
    form = find_form(model, head, batch["input_ids"][:1, :8])
    assert form is not None
    expected, _ = summed_loss(head, model, batch)
    expected_gradients = gradients(model, expected)
    found, outputs = summed_loss(head, model, batch, form)
    assert outputs.logits.shape[0] == 0
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=0)
    for name, gradient in gradients(model, found).items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=2e-6, msg=name)

    while_called, outputs = summed_loss(head, model, batch, form, in_head=True)
    assert form.explains(while_called.detach(), outputs.logits.detach())
    assert torch.equal(while_called, found)
    for name, gradient in gradients(model, while_called).items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=2e-6, msg=name)
    assert "forward" not in vars(head)


@pytest.mark.parametrize("given", [LogitForm(), LogitForm(cap=9.0), LogitForm(scale=0.5)])
def test_another_form_than_the_models_does_not_explain_what_it_returns(given: LogitForm) -> None:
    model, batch = make_model("capped"), make_batch()
    loss, outputs = summed_loss(model.get_output_embeddings(), model, batch, given, in_head=True)
    assert not given.explains(loss.detach(), outputs.logits.detach())


@pytest.mark.parametrize("in_one_pass", [False, True])
def test_entropy_and_accuracy_are_those_of_the_models_logits(
    in_one_pass: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_loss, "BUFFER_BYTES", {"cpu": 0})
    monkeypatch.setattr(head_loss, "FEWEST_POSITIONS", 7)
    model, batch = make_model("capped"), make_batch()
    for _ in range(20):  # until it guesses some of them
        loss, outputs = summed_loss(model.get_output_embeddings(), model, batch)
        for weight, gradient in gradients(model, loss).items():
            model.get_parameter(weight).data -= 0.01 * gradient
    loss, outputs = summed_loss(model.get_output_embeddings(), model, batch)
    targets = batch["labels"].flatten()[batch["trained_slots"]]
    chances = outputs.logits.softmax(-1)
    expected = {
        "entropy": torch.distributions.Categorical(chances).entropy().mean().item(),
        "token_accuracy": (chances.argmax(-1) == targets).float().mean().item(),
    }
    assert 0 < expected["token_accuracy"] < 1
    figures = TokenFigures()
    form = LogitForm(cap=5.0) if in_one_pass else None
    watched, _ = summed_loss(model.get_output_embeddings(), model, batch, form, watch=figures)
    torch.testing.assert_close(watched, loss, rtol=2e-6, atol=0)
    assert figures.since_last(lambda value: 2 * value) == pytest.approx(expected, rel=1e-5)
    assert figures.since_last(lambda value: value) == {}


class Waiting(TorchDispatchMode):
    """Fails where a GPU would have to finish its work before the program can go on."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket._qualified_op_name
        by_mask = name == "aten::index" and any(at is not None and at.dtype == torch.bool for at in args[1])
        assert not by_mask, "values chosen by a mask: their number has to be known"
        assert name not in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"), name
        return func(*args, **(kwargs or {}))


def test_nothing_in_a_loss_waits_for_the_device() -> None:
    model, batch = make_model("llama"), make_batch(weights=True)
    assert attend_by_document(model, longest=100)
    collate = Collator(0, packed=True, weighted=True, by_document=True)
    packed = collate([[make_example(12, 1), make_example(9, 2)], [make_example(17, 3)]])
    with Waiting():
        loss, _ = summed_loss(model.get_output_embeddings(), model, packed, LogitForm(), watch=TokenFigures())
        loss.backward()
    del batch["trained_slots"]
    with pytest.raises(AssertionError, match="nonzero"), Waiting():
        summed_loss(model.get_output_embeddings(), model, batch, LogitForm())


@pytest.mark.parametrize(
    ("family", "form"),
    [
        ("llama", LogitForm()),
        ("capped", LogitForm(cap=5.0)),
        ("scaled", LogitForm(scale=0.0625)),
        ("divided", LogitForm(scale=0.125)),
    ],
)
def test_what_a_model_does_to_its_logits_is_found(family: str, form: LogitForm) -> None:
    model = make_model(family)
    assert find_form(model, model.get_output_embeddings(), torch.arange(3, 11)[None]) == form


def test_a_model_that_does_more_to_its_logits_keeps_making_them() -> None:
    model = make_model("llama")
    plain = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        outputs = plain(*args, **kwargs)
        outputs.logits = 30 * torch.tanh(outputs.logits / 30)
        return outputs

    model.forward = forward
    assert find_form(model, model.get_output_embeddings(), torch.arange(3, 11)[None]) is None


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_only_a_bare_linear_layer_is_a_plain_head() -> None:
    from peft import LoraConfig, get_peft_model

    assert is_plain_linear(make_model("bias").get_output_embeddings())
    adapted = get_peft_model(make_model("llama"), LoraConfig(target_modules=["lm_head"]))
    assert not is_plain_linear(adapted.get_output_embeddings())


def test_a_frozen_head_gets_no_gradient_and_passes_it_on() -> None:
    torch.manual_seed(0)
    head = nn.Linear(16, 50)
    head.requires_grad_(False)
    hidden = torch.randn(9, 16, requires_grad=True)
    targets = torch.arange(9)
    cross_entropy(hidden, head, targets).backward()
    found, hidden.grad = hidden.grad, None
    nn.functional.cross_entropy(head(hidden), targets, reduction="sum").backward()
    torch.testing.assert_close(found, hidden.grad, rtol=1e-5, atol=1e-6)
    assert head.weight.grad is None
    assert head.bias.grad is None


def test_under_bfloat16_the_error_is_that_of_the_plain_loss() -> None:
    """Held against the exact gradient, not against the plain one, for both round."""
    torch.manual_seed(0)
    head, hidden, targets = nn.Linear(64, 500, bias=False), torch.randn(200, 64), torch.randint(0, 500, (200,))

    def gradient(loss_of: Any) -> torch.Tensor:
        head.weight.grad = None
        loss_of().backward()
        assert head.weight.grad is not None
        return head.weight.grad.clone()

    def plain() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits = head(hidden)
        return nn.functional.cross_entropy(logits.float(), targets, reduction="sum")

    exact = gradient(lambda: nn.functional.cross_entropy(head(hidden), targets, reduction="sum"))
    ours = gradient(lambda: cross_entropy(hidden, head, targets, dtype=torch.bfloat16))
    assert (ours - exact).norm() <= 1.1 * (gradient(plain) - exact).norm()


def test_a_batch_without_a_trained_token_has_loss_and_gradients_of_zero() -> None:
    model = make_model("tied")
    batch = Collator(0, packed=False)([[]])
    loss, _ = summed_loss(model.get_output_embeddings(), model, batch, LogitForm())
    assert loss == 0
    assert all(not gradient.any() for gradient in gradients(model, loss).values())
