"""Activations that lay elsewhere between the passes give the same gradients."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from sft.training.offload import activations_on_cpu


def test_gradients_are_the_same_and_weights_stay(tiny_model_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    ids = torch.randint(3, 300, (2, 24), generator=torch.Generator().manual_seed(0))

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        return [weight.grad.clone() for weight in model.parameters()]

    expected = gradients()
    with activations_on_cpu(smallest=1, also_from_cpu=True):
        found = gradients()
    assert all(map(torch.equal, found, expected))


def test_what_is_moved_is_large_and_no_weight() -> None:
    weight = torch.nn.Parameter(torch.ones(64, 64))
    small, large = torch.ones(1, 64, requires_grad=True), torch.ones(64, 64, requires_grad=True)
    with activations_on_cpu(smallest=1024, also_from_cpu=True):
        few = (small.exp() @ weight.t()).exp()
        many = (large.exp() @ weight.t()).exp()
    product = few.grad_fn.next_functions[0][0]
    assert product._saved_mat2.data_ptr() == weight.data_ptr()
    assert few.grad_fn._saved_result.data_ptr() == few.data_ptr()
    assert many.grad_fn._saved_result.data_ptr() != many.data_ptr()
    assert torch.equal(many.grad_fn._saved_result, many)


def test_tensors_of_the_cpu_stay_where_they_are() -> None:
    value = torch.ones(1 << 19, requires_grad=True)
    with activations_on_cpu():
        power = value.exp()
    assert power.grad_fn._saved_result.data_ptr() == power.data_ptr()
