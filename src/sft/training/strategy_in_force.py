"""How the processes of a run really share its work, read off the wrapped model, and held against what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.errors import ConfigError
from sft.training.mesh import mesh_in_force, shares_weights_by_rows
from sft.training.strategy import ALONE, DDP, SHARES, AskedStrategy, Strategy


@dataclass(frozen=True)
class StrategyInForce(Strategy):
    """What runs, read off the objects that do it."""

    wrapper: str
    """Class around the model."""
    precision: str
    device: str
    backend: str
    whole_share: float
    """Share of the weights that each process holds whole all the same, where the strategy shares weights out."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for run.json."""
        return {
            "strategy": self.name,
            "num_processes": self.num_processes,
            "wrapper": self.wrapper,
            "precision": self.precision,
            "device": self.device,
            "backend": self.backend,
            "whole_share": round(self.whole_share, 4),
            **self.mesh.sizes,
        }


def strategy_in_force(trainer: Any) -> StrategyInForce:
    """Look at the wrapped model of a trainer that is about to take its first step."""
    accelerator, wrapped = trainer.accelerator, trainer.model_wrapped
    size = int(accelerator.num_processes)
    return StrategyInForce(
        name=_name_of(wrapped, size),
        num_processes=size,
        wrapper=type(wrapped).__name__,
        precision=_precision_of(wrapped, accelerator.mixed_precision),
        device=accelerator.device.type,
        backend=torch.distributed.get_backend() if torch.distributed.is_initialized() else "none",
        whole_share=_whole_share(wrapped),
        mesh=mesh_in_force(wrapped, size),
    )


def _whole_share(wrapped: nn.Module) -> float:
    """Of all bytes of weights in this process and in the shards of others, those that are whole here.

    accelerate leaves quantised weights out of FSDP2.
    """
    whole = total = 0
    for parameter in wrapped.parameters():
        count = int(getattr(parameter, "ds_numel", parameter.numel())) * parameter.element_size()
        total += count
        whole += 0 if isinstance(parameter, DTensor) or hasattr(parameter, "ds_tensor") else count
    return whole / max(total, 1)


def _name_of(wrapped: nn.Module, size: int) -> str:
    if hasattr(wrapped, "zero_optimization_stage"):
        return f"ZeRO-{wrapped.zero_optimization_stage()}"  # type: ignore[operator]
    if any(isinstance(parameter, DTensor) for parameter in wrapped.parameters()):
        return "FSDP2" if shares_weights_by_rows(wrapped) else "TP"
    if type(wrapped).__name__ == "FullyShardedDataParallel":
        return "FSDP1"
    return DDP if isinstance(wrapped, DistributedDataParallel) and size > 1 else ALONE


def _precision_of(wrapped: nn.Module, mixed: str) -> str:
    if hasattr(wrapped, "bfloat16_enabled"):
        half = "bf16" if wrapped.bfloat16_enabled() else "fp16" if wrapped.fp16_enabled() else "no"  # type: ignore[operator]
        return "float32" if half == "no" else half
    return "float32" if mixed == "no" else str(mixed)


def describe_strategy(running: StrategyInForce) -> str:
    """One line for people."""
    if running.name == ALONE:
        return f"running\n  one process on {running.device}, {running.precision}"
    plural = "es" if running.num_processes > 1 else ""
    whole = ""
    if running.shards_weights and running.whole_share > 0.01:
        whole = (
            f" ({running.whole_share:.0%} of the weights, in bytes, stay whole on each: the engine does not share them)"
        )
    return (
        f"running\n  {running.num_processes} process{plural} over {running.backend} on {running.device}, as asked: "
        f"{running.name}, {SHARES[running.name]}{whole}; {running.precision}"
        + (f"\n  {running.mesh.describe()}" if running.mesh.sizes else "")
    )


def _in_words(strategy: Strategy) -> str:
    shared = strategy.mesh.describe()
    return f"{strategy.num_processes} processes with {strategy.name}" + (f", {shared}" if shared else "")


class StrategyCheck(TrainerCallback):  # type: ignore[misc]
    """Before the first step: what was asked for is what runs, or the run ends."""

    def __init__(self, asked: AskedStrategy, trainer: Any, tell: Callable[[StrategyInForce], None]) -> None:
        self.asked = asked
        self.trainer = trainer
        self.tell = tell

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        running = strategy_in_force(self.trainer)
        what, found = (_in_words(strategy) for strategy in (self.asked, running))
        if what != found:
            raise ConfigError(
                f"asked for: {what} (by {self.asked.said_by}); "
                f"what would run: {found} ({running.wrapper} on {running.device}). "
                "The run would not be the one you asked for. docs/many-machines.md says what starts which."
            )
        self.tell(running)
