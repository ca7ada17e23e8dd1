"""Real FSDP2 on a CPU, for tests: accelerate shards weights on GPUs only, and does DDP on CPUs without a word.

Two private methods of accelerate are wrapped, so that it takes two gloo processes for two GPUs whose device is the CPU.
"""

from __future__ import annotations

from typing import Any

import torch

NAMES = ("_prepare_backend", "set_device", "_shared_state")


def missing_names() -> list[str]:
    """What the installed accelerate lacks of the private names used here."""
    from accelerate.state import PartialState

    return [name for name in NAMES if not hasattr(PartialState, name)]


class FsdpOnCpu:
    """While entered, accelerate takes this process for one that drives a GPU."""

    def __enter__(self) -> None:
        from accelerate.state import PartialState
        from accelerate.utils import DistributedType

        self._kept = {name: getattr(PartialState, name) for name in NAMES[:2]}
        prepare, place = self._kept["_prepare_backend"], self._kept["set_device"]

        def prepare_backend(state: Any, *args: Any, **kwargs: Any) -> Any:
            backend, kind = prepare(state, *args, **kwargs)
            return backend, DistributedType.MULTI_GPU if kind == DistributedType.MULTI_CPU else kind

        def set_device(state: Any) -> None:
            state.device = torch.device("cpu")

        assert place is not None
        PartialState._prepare_backend = prepare_backend
        PartialState.set_device = set_device

    def __exit__(self, *error: object) -> None:
        from accelerate.state import PartialState

        for name, value in self._kept.items():
            setattr(PartialState, name, value)
