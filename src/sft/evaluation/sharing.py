"""Work shared among the processes of a run, so that a failure on one is a failure on all and nobody waits for ever.

With one process, and no process group, everything happens here.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from sft.errors import DataError, GenerationError, UserError
from sft.evaluation.heartbeat import Heartbeat

Value = TypeVar("Value")

PATIENCE = timedelta(minutes=10)
"""For what is exchanged once all have done their part. Until then, for hours if need be, they watch each other live."""

_turns = itertools.count()
"""Numbers the waits of this process; all processes wait in the same order."""


@dataclass(frozen=True)
class Ranks:
    """The processes that evaluate together, seen from one of them."""

    rank: int = 0
    size: int = 1
    group: Any = None
    """The process group through which they speak."""

    @classmethod
    def current(cls) -> Ranks:
        """All processes of this run. Call it on all of them; the first call makes a group of its own for them."""
        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return cls()
        return cls(dist.get_rank(), dist.get_world_size(), _group_beside(dist.group.WORLD))

    @property
    def is_first(self) -> bool:
        """Whether this is the one process that writes and speaks."""
        return self.rank == 0

    def gather(self, call: Callable[[], Value]) -> list[Value]:
        """Call on every process; every process gets all values, in the order of ranks.

        Raises:
            Exception: with one process, what ``call`` raised.
            DataError, GenerationError: with several, on all of them, if any raised; its rank and its message are told.
            PeerLost: with several, one of them died, hangs or is cut off.
        """
        if self.size == 1:
            return [call()]
        board = dist.PrefixStore(f"sft/evaluation/{next(_turns)}", dist.distributed_c10d._get_default_store())  # type: ignore[attr-defined]
        heartbeat = Heartbeat(board, self.rank, self.size)
        value, raised = None, None
        try:
            value = call()
        except Exception as error:
            raised = error
        heartbeat.finish()
        outcomes: list[Any] = [None] * self.size
        dist.all_gather_object(outcomes, (value, _describe(raised)), group=self.group)
        for rank, (_, failure) in enumerate(outcomes):
            if failure is not None:
                is_users, text = failure
                kind = DataError if is_users else GenerationError
                raise kind(f"process {rank} of {self.size}: {text}") from raised
        return [value for value, _ in outcomes]

    def on_first(self, call: Callable[[], Value]) -> Value:
        """Call on the first process only; every process gets the value, or the failure, as ``gather`` has it."""
        return self.gather(lambda: call() if self.is_first else None)[0]  # type: ignore[return-value]


def share_out(weights: Sequence[int], size: int) -> list[list[int]]:
    """Deal positions out to ``size`` shares of about the same total weight, heaviest first.

    Returns:
        Every position once, in order within each share; a function of the arguments only.
    """
    shares: list[list[int]] = [[] for _ in range(size)]
    totals = [0] * size
    for position in sorted(range(len(weights)), key=lambda position: (-weights[position], position)):
        lightest = min(range(size), key=lambda share: (totals[share], share))
        shares[lightest].append(position)
        totals[lightest] += weights[position]
    return [sorted(share) for share in shares]


@functools.lru_cache(maxsize=1)
def _group_beside(world: Any) -> Any:
    """A group of the same processes over gloo: it needs no device, and its patience is ours to choose."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)


def _describe(error: Exception | None) -> tuple[bool, str] | None:
    if error is None:
        return None
    is_users = isinstance(error, UserError)
    return is_users, str(error) if is_users or isinstance(
        error, GenerationError
    ) else f"{type(error).__name__}: {error}"
