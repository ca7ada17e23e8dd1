"""DeepSpeed takes its steps within the backward pass: it is told there which ones to leave out, and asked which it did.

With ZeRO it looks by itself, on all processes alike, at the norm of the gradient or at each value. bfloat16 can be told
not to look, which is taken back here; without ZeRO nothing looks, and a look is put before the step. float16 is
DeepSpeed's own: there, steps are left out to find out how large gradients may be scaled.
"""

from __future__ import annotations

from typing import Any

import torch


def is_engine(model: Any) -> bool:
    """Whether DeepSpeed takes the steps of a wrapped model."""
    return hasattr(model, "zero_optimization_stage") and hasattr(model, "optimizer")


def let_engine_look(engine: Any) -> None:
    """See that a step whose gradient is not finite is left out."""
    optimizer = engine.optimizer
    if hasattr(optimizer, "check_grad_overflow"):
        has_norm = getattr(optimizer, "compute_grad_norm", True)
        optimizer.check_grad_overflow |= engine.bfloat16_enabled() or not has_norm
    elif not hasattr(optimizer, "overflow"):
        _look_before_steps(engine, optimizer)


def was_left_out(engine: Any) -> bool:
    """Whether the engine left its last step out; the same on all processes."""
    return bool(getattr(engine.optimizer, "overflow", False))


def _look_before_steps(engine: Any, optimizer: Any) -> None:
    """Without ZeRO gradients are whole, and the same on all processes, when the optimizer is called."""
    act = optimizer.step

    def act_if_finite(*args: Any, **kwargs: Any) -> Any:
        gradients = [weight.grad for weight in engine.module.parameters() if weight.grad is not None]
        norm = torch.stack([torch.linalg.vector_norm(gradient.float()) for gradient in gradients]).sum()
        optimizer.overflow = not bool(torch.isfinite(norm))
        return None if optimizer.overflow else act(*args, **kwargs)

    optimizer.overflow = False
    optimizer.step = act_if_finite
