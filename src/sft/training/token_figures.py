"""What a model thinks of the tokens it is trained on: how sure it is, how often it ranks the right one first, and how
well it does on each source and on each answer of a conversation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sft.data.loss_groups import LossGroups

POSITIONS = 64
"""Predictions looked at together: little beside the logits that are there anyway."""


class TokenFigures:
    """Sees logits and targets as a loss is made, and adds up entropies, right guesses and losses where they are.

    Args:
        groups: by which losses are added up; None: by none.
    """

    def __init__(self, groups: LossGroups | None = None) -> None:
        self._sums: Tensor | None = None
        self._of_groups = [] if groups is None else [GroupLosses(names) for names in groups.families.values()]
        self._groups: Tensor | None = None
        self._seen = 0

    def begin(self, groups: Tensor | None) -> None:
        """A batch comes: the groups (families, trained) of its trained tokens, in the order in which they are seen."""
        self._groups, self._seen = groups, 0

    def __call__(self, logits: Tensor, targets: Tensor) -> None:
        """Count ``targets`` (positions,), predicted by ``logits`` (positions, vocab)."""
        with torch.no_grad():
            if self._sums is None:
                self._sums = torch.zeros(3, dtype=torch.float32, device=logits.device)
            for part, wanted in zip(torch.split(logits, POSITIONS), torch.split(targets, POSITIONS), strict=True):
                logs = part.float().log_softmax(-1)
                self._sums[0] -= (logs.exp() * logs).sum()
                self._sums[1] += (part.argmax(-1) == wanted).sum()
                self._add_to_groups(-logs.gather(1, wanted[:, None]).squeeze(1))
            self._sums[2] += len(targets)

    def _add_to_groups(self, losses: Tensor) -> None:
        if self._groups is None:
            return
        begin = self._seen % max(1, self._groups.shape[1])  # a loss that is made twice begins again
        self._seen = begin + len(losses)
        for family, numbers in zip(self._of_groups, self._groups[:, begin : self._seen], strict=True):
            family.add(losses, numbers)

    def since_last(self, sum_over_processes: Callable[[float], float]) -> dict[str, float]:
        """Means over all processes since the last call; empty where nothing was counted. Waits for the device."""
        sums = [0.0, 0.0, 0.0] if self._sums is None else self._sums.tolist()
        self._sums = None
        entropy, right, count = (sum_over_processes(value) for value in sums)
        found = {"entropy": entropy / count, "token_accuracy": right / count} if count else {}
        for family in self._of_groups:
            found.update(family.since_last(sum_over_processes))
        return found


class GroupLosses:
    """Losses added up by one family of groups: the sources, or the answers of an example.

    Args:
        names: under which the mean of each group is logged.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._sums: Tensor | None = None

    def add(self, losses: Tensor, numbers: Tensor) -> None:
        """Add ``losses`` (positions,) to the groups of these ``numbers``; those below 0 belong to none."""
        if self._sums is None:
            self._sums = torch.zeros(2, len(self.names) + 1, dtype=torch.float32, device=losses.device)
        places = torch.where(numbers < 0, len(self.names), numbers).to(losses.device)
        self._sums[0].index_add_(0, places, losses)
        self._sums[1].index_add_(0, places, torch.ones_like(losses))

    def since_last(self, sum_over_processes: Callable[[float], float]) -> dict[str, float]:
        """The mean loss of each group that had tokens since the last call; empty where that is one group alone."""
        size = len(self.names)
        totals, counts = [[0.0] * size] * 2 if self._sums is None else self._sums[:, :size].tolist()
        self._sums = None
        pairs = [
            (sum_over_processes(total), sum_over_processes(count)) for total, count in zip(totals, counts, strict=True)
        ]
        found = {name: total / count for name, (total, count) in zip(self.names, pairs, strict=True) if count}
        return found if len(found) > 1 else {}
