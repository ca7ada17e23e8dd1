"""Cross-entropy straight from hidden states: no logits are kept, and gradients are made while the loss is.

Logits of a vocabulary of 150,000 are the largest tensor of a training step. Here they exist for a few hundred positions
at a time, in one buffer: each chunk is multiplied with the head, turned into its losses, then in place into the
gradient of its logits, and that into its share of the gradients of hidden states and head. Nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sft.models.cpu_products import OneDnnLinear
from sft.training.tiled_loss import tiled_cross_entropy

BUFFER_BYTES = {"cpu": 1 << 27, "accelerator": 1 << 29}
"""Size of the buffer of float32 logits: as large as keeps the cores busy, small beside the rest."""

FEWEST_POSITIONS = 64

LARGEST_PROBED = 100.0
"""What the largest logit is made while a model is asked what it does to them."""

PROBE_TOLERANCE = 0.5
"""bfloat16 rounds at 2^-8; what is looked for changes a logit of 100 by far more."""

CAPS = ("final_logit_softcapping",)
SCALES = ("logit_scale", "lm_head_multiplier")
DIVISORS = ("logits_scaling",)
"""Names in model configs of what is done to logits after the head (Gemma 2; Cohere, Falcon-H1; Granite)."""


Weigh = Callable[[Tensor], Tensor]
"""Logits (positions, vocab) -> what each position counts, float32 (positions,)."""

Watch = Callable[[Tensor, Tensor], None]
"""Sees logits (positions, vocab) and targets (positions,) before they are turned into losses."""


@dataclass(frozen=True)
class LogitForm:
    """What a model does with the output ``z`` of its head: ``cap * tanh(scale * z / cap)``, or ``scale * z``."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        scaled = logits * self.scale
        return scaled if self.cap is None else self.cap * torch.tanh(scaled / self.cap)

    def explains(self, before: Tensor, after: Tensor) -> bool:
        """Whether this, and no more, was done to a number, but for the rounding of a low precision."""
        return torch.allclose(self(before.float()).flatten(), after.float().flatten(), rtol=1e-2)


def find_form(model: Any, head: nn.Module, input_ids: Tensor) -> LogitForm | None:
    """What the model does to its head's output, read from its config and seen to be so; None if it does more.

    A few tokens are run with the head's output blown up, so that a cap shows.

    Args:
        input_ids: int64 (1, seq).
    """
    seen: list[Tensor] = []

    def blow_up(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        seen.append(output * (LARGEST_PROBED / output.abs().max().clamp_min(1e-6)))
        return seen[-1]

    handle = head.register_forward_hook(blow_up)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(input_ids=input_ids, use_cache=False).logits
    finally:
        handle.remove()
        model.train(was_training)
    if len(seen) != 1 or seen[0].shape != logits.shape:
        return None
    form = form_of(model.config)
    return form if torch.allclose(form(seen[0].float()), logits.float(), rtol=0, atol=PROBE_TOLERANCE) else None


def form_of(config: Any) -> LogitForm:
    """What a model's config tells of what the model does to its head's output."""
    config = config.get_text_config()
    scale = 1.0
    for name in SCALES:
        scale *= getattr(config, name, None) or 1.0
    for name in DIVISORS:
        scale /= getattr(config, name, None) or 1.0
    return LogitForm(scale, next((getattr(config, name) for name in CAPS if getattr(config, name, None)), None))


def is_plain_linear(head: nn.Module | None) -> bool:
    """Whether a head is one matrix and perhaps a bias, with no adapter, wrapper or quantisation around it.

    FSDP2 makes a class of its own of each class that it shares out, which computes the same.
    """
    kind = type(head)
    return kind in (nn.Linear, OneDnnLinear) or (kind.__name__ == "FSDPLinear" and kind.__bases__[-1] is nn.Linear)


def cross_entropy(
    hidden: Tensor,
    head: nn.Linear,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    form: LogitForm | None = None,
    dtype: torch.dtype | None = None,
    weigh: Weigh | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Cross-entropy in nats, summed over positions, in float32.

    Args:
        hidden: what the head would be given, (positions, hidden).
        targets: int64 (positions,).
        weights: float32 (positions,), what each position counts; None: 1.
        form: what the model does to the head's output.
        dtype: precision of the products; None: that of ``hidden``.
        weigh: what each position counts besides, told from its logits.
        watch: sees the logits of each chunk.
    """
    dtype = dtype or hidden.dtype
    is_bare = weigh is None and watch is None and (form is None or form == LogitForm())
    with torch.autocast(hidden.device.type, enabled=False):
        if is_bare and dtype == hidden.dtype and goes_by_tiles(head, hidden):
            positions = chunk_size(len(head.weight), hidden.device)
            return tiled_cross_entropy(hidden, head.weight, targets, weights, positions)
        total: Tensor = _OnePass.apply(  # type: ignore[no-untyped-call]
            hidden, head.weight, head.bias, targets, weights, form or LogitForm(), dtype, weigh, watch
        )
    return total


def goes_by_tiles(head: nn.Linear, hidden: Tensor) -> bool:
    """Whether oneDNN multiplies these, and nothing is added to it."""
    return isinstance(head, OneDnnLinear) and head.takes(hidden) and head.bias is None


def chunk_size(vocabulary: int, device: torch.device) -> int:
    """Positions whose logits fit the buffer."""
    size = BUFFER_BYTES["cpu" if device.type == "cpu" else "accelerator"]
    return max(FEWEST_POSITIONS, size // (4 * vocabulary))


class _OnePass(torch.autograd.Function):
    """Gradients are for a loss of 1 per position, and are multiplied by what comes from above in ``backward``."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor | None,
        form: LogitForm,
        dtype: torch.dtype,
        weigh: Weigh | None,
        watch: Watch | None,
    ) -> Tensor:
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        matrix = weight.detach().to(dtype)
        grads = _Gradients(
            hidden=torch.empty_like(hidden) if wants_hidden else None,
            weight=torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None,
            bias=torch.zeros_like(weight[:, 0], dtype=torch.float32) if wants_bias else None,
        )
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        step = min(chunk_size(len(matrix), hidden.device), max(1, len(hidden)))
        buffer = torch.empty((step, len(matrix)), dtype=torch.float32, device=hidden.device)
        product = buffer if dtype == torch.float32 else torch.empty_like(buffer, dtype=dtype)
        for start in range(0, len(hidden), step):
            part = slice(start, min(start + step, len(hidden)))
            here = hidden[part].to(dtype)
            logits, slope = _logits(here, matrix, bias, form, buffer[: len(here)], product[: len(here)])
            if watch is not None:
                watch(logits, targets[part])
            share = None if weights is None else weights[part, None]
            if weigh is not None:
                share = weigh(logits)[:, None] * (1 if share is None else share)
            losses[part] = _losses_then_gradient(logits, targets[part, None], share)
            if share is not None:
                losses[part] *= share[:, 0]
            if grads.wanted:
                if slope is not None:
                    logits.mul_(slope)
                if form.scale != 1.0:
                    logits.mul_(form.scale)
                grads.take(part, logits, here, matrix, product[: len(here)])
        ctx.grads, ctx.dtypes = grads, (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        grads, ctx.grads = ctx.grads, None
        each = zip((grads.hidden, grads.weight, grads.bias), ctx.dtypes, strict=True)
        return (*(None if grad is None else grad.mul_(above).to(dtype) for grad, dtype in each), *[None] * 6)


@dataclass
class _Gradients:
    """Gradients that are wanted, while chunks add to them."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    @property
    def wanted(self) -> bool:
        return any(grad is not None for grad in (self.hidden, self.weight, self.bias))

    def take(self, part: slice, gradient: Tensor, hidden: Tensor, matrix: Tensor, product: Tensor) -> None:
        """Add one chunk's share. ``gradient`` is that of its logits, float32; ``product`` has the products' dtype."""
        if self.bias is not None:
            self.bias += gradient.sum(0)
        low = gradient if product.dtype == torch.float32 else product.copy_(gradient)
        if self.hidden is not None:
            self.hidden[part] = low @ matrix
        if self.weight is not None and low.dtype == torch.float32:
            self.weight.addmm_(low.T, hidden)
        elif self.weight is not None:
            self.weight += low.T @ hidden


def _logits(
    hidden: Tensor, matrix: Tensor, bias: Tensor | None, form: LogitForm, buffer: Tensor, product: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Logits of a chunk in ``buffer``, and the slope of the capping where there is one."""
    torch.mm(hidden, matrix.T, out=product)
    if product is not buffer and product.data_ptr() != buffer.data_ptr():
        buffer.copy_(product)
    if bias is not None:
        buffer += bias
    if form.scale != 1.0:
        buffer *= form.scale
    if form.cap is None:
        return buffer, None
    buffer.div_(form.cap).tanh_()
    slope = 1 - buffer.square()
    return buffer.mul_(form.cap), slope


def _losses_then_gradient(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Losses (positions,) of logits, which become the gradient of the weighted sum of these losses."""
    logits.sub_(logits.amax(dim=1, keepdim=True))
    chosen = logits.gather(1, targets)
    sums = logits.exp_().sum(dim=1, keepdim=True)
    losses = (sums.log() - chosen).squeeze(1)
    logits.div_(sums)
    logits.scatter_add_(1, targets, torch.full_like(chosen, -1.0))
    if weights is not None:
        logits.mul_(weights)
    return losses
