"""Linear layers that multiply by oneDNN, against PyTorch's own in float64."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from torch import nn

from sft.errors import ConfigError
from sft.models import cpu_products
from sft.models.cpu_products import OneDnnLinear, multiply_quickly, onednn_is_quicker

pytestmark = pytest.mark.skipif(not cpu_products.has_onednn(), reason="this PyTorch was built without oneDNN")


@pytest.fixture(autouse=True)
def whatever_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_products, "FEWEST_PRODUCTS", 1)


def made_from(layer: nn.Linear) -> nn.Linear:
    quick = copy.deepcopy(layer)
    assert multiply_quickly(quick, "onednn")
    assert type(quick) is OneDnnLinear
    return quick


def results(layer: nn.Linear, states: torch.Tensor) -> list[torch.Tensor | None]:
    """What it makes, and the gradients of its input, weight and bias."""
    states = states.detach().requires_grad_()
    made = layer(states)
    made.backward(torch.linspace(-1, 1, made.numel(), dtype=made.dtype).view_as(made).transpose(0, 1).transpose(0, 1))
    return [made.detach(), states.grad, layer.weight.grad, None if layer.bias is None else layer.bias.grad]


@pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])
@pytest.mark.parametrize(("wide", "high"), [(16, 80), (80, 16), (33, 33)])
@pytest.mark.parametrize("shape", [(1,), (50,), (2, 25), (2, 5, 5)], ids=str)
def test_values_and_gradients_are_those_of_linear_layers(
    shape: tuple[int, ...], wide: int, high: int, bias: bool
) -> None:
    torch.manual_seed(0)
    layer, states = nn.Linear(wide, high, bias=bias), torch.randn(*shape, wide)
    expected = results(copy.deepcopy(layer).double(), states.double())
    for quick, true in zip(results(made_from(layer), states), expected, strict=True):
        assert (quick is None) == (true is None)
        if quick is not None and true is not None:
            torch.testing.assert_close(quick.double(), true, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("where", ["states", "gradient"])
def test_other_layouts_of_memory(where: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 40)
    quick = made_from(layer)
    states = torch.randn(24, 6, 7).permute(2, 1, 0) if where == "states" else torch.randn(7, 6, 24)
    above = torch.ones(()).expand(7, 6, 40) if where == "gradient" else torch.randn(7, 6, 40)
    for each in (layer, quick):
        each(states).backward(above)
    torch.testing.assert_close(quick.weight.grad, layer.weight.grad)
    torch.testing.assert_close(quick(states), layer(states))


def test_frozen_weights_get_no_gradient_and_pass_it_on() -> None:
    layer = nn.Linear(24, 40).requires_grad_(False)
    found, _, weight, bias = results(made_from(layer), torch.randn(9, 24))
    assert found is not None
    assert weight is None
    assert bias is None


def test_what_is_not_large_float32_goes_as_it_always_did(monkeypatch: pytest.MonkeyPatch) -> None:
    quick, states = made_from(nn.Linear(24, 40)), torch.randn(9, 24)
    assert quick.takes(states)
    assert not quick.takes(states[:0])
    assert quick(states[:0]).shape == (0, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not quick.takes(states)
        assert quick(states).dtype == torch.bfloat16
    assert not made_from(nn.Linear(24, 40).bfloat16()).takes(states.bfloat16())
    monkeypatch.setattr(cpu_products, "FEWEST_PRODUCTS", 9 * 24 * 40 + 1)
    assert not quick.takes(states)


def test_names_and_weights_of_a_model_stay() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    before = {name: weight.data_ptr() for name, weight in model.named_parameters()}
    assert multiply_quickly(model, "onednn")
    assert {name: weight.data_ptr() for name, weight in model.named_parameters()} == before
    assert [type(module).__name__ for module in model] == ["OneDnnLinear", "ReLU", "OneDnnLinear"]


@pytest.mark.parametrize(
    ("processor", "capability", "quicker"),
    [
        ("vendor_id\t: AuthenticAMD", "AVX512", True),
        ("vendor_id\t: AuthenticAMD", "AVX2", False),
        ("vendor_id\t: GenuineIntel", "AVX512", False),
    ],
)
def test_it_is_quicker_on_amd_with_registers_of_512_bits(
    processor: str, capability: str, quicker: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_products, "processors", lambda: processor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    onednn_is_quicker.cache_clear()
    try:
        assert onednn_is_quicker() is quicker
        assert multiply_quickly(nn.Linear(2, 2), "auto") is quicker
        assert not multiply_quickly(nn.Linear(2, 2), "pytorch")
    finally:
        onednn_is_quicker.cache_clear()


def test_a_pytorch_without_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="cpu_matmul = onednn, but this PyTorch was built without oneDNN"):
        multiply_quickly(nn.Linear(2, 2), "onednn")


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of the compiler
def test_compiled_layers_multiply_by_it_too() -> None:
    layer, states = nn.Linear(24, 40), torch.randn(9, 24)
    quick = made_from(layer)
    torch.compile(quick)(states).sum().backward()
    layer(states).sum().backward()
    torch.testing.assert_close(quick.weight.grad, layer.weight.grad)
