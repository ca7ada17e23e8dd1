"""The loss in tiles against PyTorch's cross-entropy over whole logits, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sft.models import cpu_products
from sft.models.cpu_products import multiply_quickly
from sft.training import head_loss, tiled_loss
from sft.training.head_loss import LogitForm, cross_entropy, goes_by_tiles

POSITIONS, HIDDEN, WORDS = 41, 24, 150

pytestmark = pytest.mark.skipif(not cpu_products.has_onednn(), reason="this PyTorch was built without oneDNN")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles and chunks, the last of each smaller."""
    monkeypatch.setattr(cpu_products, "FEWEST_PRODUCTS", 1)
    monkeypatch.setattr(tiled_loss, "TILE", 64)
    monkeypatch.setattr(head_loss, "BUFFER_BYTES", {"cpu": 0})
    monkeypatch.setattr(head_loss, "FEWEST_POSITIONS", 9)


def make(scale: float = 1.0) -> tuple[torch.Tensor, nn.Linear, torch.Tensor]:
    """Hidden states, a head that goes by tiles, and targets, of which some are at the edges of tiles."""
    torch.manual_seed(0)
    head = nn.Linear(HIDDEN, WORDS, bias=False)
    multiply_quickly(head, "onednn")
    targets = torch.randint(WORDS, (POSITIONS,))
    targets[:6] = torch.tensor([0, 63, 64, 127, 128, WORDS - 1])
    return torch.randn(POSITIONS, HIDDEN) * scale, head, targets


def whole(
    hidden: torch.Tensor,
    head: nn.Linear,
    targets: torch.Tensor,
    weights: torch.Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss, gradient of the hidden states and of the head, by whole logits; in float64."""
    states = hidden.detach().to(dtype).requires_grad_()
    matrix = head.weight.detach().to(dtype).requires_grad_()
    losses = nn.functional.cross_entropy(states @ matrix.T, targets, reduction="none")
    loss = (losses if weights is None else losses * weights.to(dtype)).sum()
    loss.backward()
    assert states.grad is not None
    assert matrix.grad is not None
    return loss.detach().double(), states.grad.double(), matrix.grad.double()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1.0, 300.0], ids=["usual", "one word has it all"])
def test_loss_and_gradients_are_those_of_whole_logits(weighted: bool, scale: float) -> None:
    """As near as float32 comes by whole logits."""
    hidden, head, targets = make(scale)
    weights = torch.rand(POSITIONS) if weighted else None
    expected = whole(hidden, head, targets, weights)
    usual = whole(hidden, head, targets, weights, torch.float32)
    hidden.requires_grad_()
    assert goes_by_tiles(head, hidden)
    loss = cross_entropy(hidden, head, targets, weights=weights)
    (loss * 4).backward()
    assert hidden.grad is not None
    assert head.weight.grad is not None
    found = loss.detach().double(), hidden.grad.double() / 4, head.weight.grad.double() / 4
    for ours, theirs, true in zip(found, usual, expected, strict=True):
        assert (ours - true).norm() <= 2 * (theirs - true).norm() + 1e-6 * true.norm()


def test_a_frozen_head_and_frozen_states() -> None:
    hidden, head, targets = make()
    loss, for_hidden, for_matrix = whole(hidden, head, targets)
    cross_entropy(hidden, head, targets).backward()
    assert head.weight.grad is not None
    torch.testing.assert_close(head.weight.grad.double(), for_matrix, rtol=1e-5, atol=1e-5)
    head.weight.requires_grad_(False)
    hidden.requires_grad_()
    cross_entropy(hidden, head, targets).backward()
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad.double(), for_hidden, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(cross_entropy(hidden, head, targets).double(), loss, rtol=2e-6, atol=0)


def test_heads_with_more_to_them_go_the_other_way() -> None:
    """Their losses are seen whole: by who looks at logits, by caps, by a bias."""
    hidden, head, targets = make()
    seen: list[torch.Size] = []
    watched = cross_entropy(hidden, head, targets, watch=lambda logits, _: seen.append(logits.shape))
    assert seen[0] == (9, WORDS)
    torch.testing.assert_close(watched, cross_entropy(hidden, head, targets))
    capped = cross_entropy(hidden, head, targets, form=LogitForm(cap=0.1))
    expected = nn.functional.cross_entropy(0.1 * torch.tanh(head(hidden) / 0.1), targets, reduction="sum")
    torch.testing.assert_close(capped, expected)
    with_bias = nn.Linear(HIDDEN, WORDS)
    multiply_quickly(with_bias, "onednn")
    assert not goes_by_tiles(with_bias, hidden)
    expected = nn.functional.cross_entropy(with_bias(hidden), targets, reduction="sum")
    torch.testing.assert_close(cross_entropy(hidden, with_bias, targets), expected)
