"""What a model thinks of the tokens it is trained on: how sure it is, and how often it ranks the right one first."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

POSITIONS = 64
"""Predictions looked at together: little beside the logits that are there anyway."""


class TokenFigures:
    """Sees logits and targets as a loss is made, and adds up entropies and right guesses where they are."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> None:
        """Count ``targets`` (positions,), predicted by ``logits`` (positions, vocab)."""
        with torch.no_grad():
            if self._sums is None:
                self._sums = torch.zeros(3, dtype=torch.float32, device=logits.device)
            for part, wanted in zip(torch.split(logits, POSITIONS), torch.split(targets, POSITIONS), strict=True):
                logs = part.float().log_softmax(-1)
                self._sums[0] -= (logs.exp() * logs).sum()
                self._sums[1] += (part.argmax(-1) == wanted).sum()
            self._sums[2] += len(targets)

    def since_last(self, sum_over_processes: Callable[[float], float]) -> dict[str, float]:
        """Means over all processes since the last call; empty where nothing was counted. Waits for the device."""
        sums = [0.0, 0.0, 0.0] if self._sums is None else self._sums.tolist()
        self._sums = None
        entropy, right, count = (sum_over_processes(value) for value in sums)
        return {"entropy": entropy / count, "token_accuracy": right / count} if count else {}
