"""Starting the processes of a run as asked, and proving that what was asked for is what runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.models.context import ContextGroup, context_groups
from sft.training.launch import has_launcher, local_rank, rank
from sft.training.mesh import Mesh, mesh_in_force, shares_weights_by_rows
from sft.training.peers import connect
from sft.training.strategy import ALONE, DDP, SHARES, AskedStrategy, Strategy

PRIVATE_PATHS = (
    "model_name_or_path", "tokenizer_name_or_path", "adapter_name_or_path", "data_path", "eval_data_path", "cache_dir",
    "output_dir", "deepspeed", "gen_questions_file", "eval_engine_python", "longbench_dir", "qmsum_dir",
    "truthfulqa_file", "bleurt_checkpoint",
)  # fmt: skip
"""Options that may differ from machine to machine: what they lead to is compared instead."""


def trains_on_cpu() -> bool:
    """Whether this machine has nothing faster than its CPU."""
    return not torch.accelerator.is_available()


def start_processes(asked: AskedStrategy, *, timeout_seconds: int) -> None:
    """Connect the processes: after the data was prepared, before TrainingArguments, before the model is built.

    ZeRO-3 builds the model in pieces, so DeepSpeed must know of its processes by then.

    Raises:
        PeerLost: they did not find each other in time.
    """
    on_cpu = trains_on_cpu()
    if asked.name == ALONE and not has_launcher():
        return
    _complete_environment(asked)
    connect(size=asked.num_processes, timeout_seconds=timeout_seconds, on_cpu=on_cpu)
    if asked.is_deepspeed and on_cpu:
        _start_deepspeed_on_cpu(timeout_seconds)


def start_context(asked: AskedStrategy) -> ContextGroup | None:
    """The processes that share rows with this one, once all are connected; None where each has rows of its own."""
    if asked.mesh.context == 1:
        return None
    mesh = asked.mesh
    return context_groups(processes=mesh.processes, rank=rank(), tensor=mesh.tensor, context=mesh.context)


def _complete_environment(asked: AskedStrategy) -> None:
    """What torchrun would have set: for MPI's processes, and for a single one whose engine wants a group."""
    os.environ.setdefault("RANK", str(rank()))
    os.environ.setdefault("WORLD_SIZE", str(asked.num_processes))
    os.environ.setdefault("LOCAL_RANK", str(local_rank()))
    if asked.num_processes == 1:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "0")  # any free one


def _start_deepspeed_on_cpu(timeout_seconds: int) -> None:
    """DeepSpeed over gloo. Its own shared-memory transport would be compiled first, and is left out."""
    import deepspeed

    getattr(deepspeed.ops, "__compatible_ops__", {})["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        dist_backend="gloo", auto_mpi_discovery=False, verbose=False, timeout=timedelta(seconds=timeout_seconds)
    )


def shared_facts(config: SFTConfig, asked: AskedStrategy, *, data: str, checkpoint: Path | None) -> dict[str, Any]:
    """What must be the same on every process of a run.

    Args:
        data: what the prepared data is known by.
        checkpoint: what this process goes on from; its name counts.
    """
    options = {name: value for name, value in config.to_dict().items() if name not in PRIVATE_PATHS}
    settings = None if asked.deepspeed is None else asked.deepspeed.values
    return {
        **options,
        "strategy": asked.name,
        "deepspeed settings": settings,
        "prepared data": data,
        "checkpoint to go on from": None if checkpoint is None else checkpoint.name,
    }


def let_ddp_search(arguments: TrainingArguments, model: nn.Module) -> None:
    """Let DDP search for unused weights where there may be some and nobody said whether to; else it waits for all."""
    if arguments.ddp_find_unused_parameters is None:
        arguments.ddp_find_unused_parameters = _may_leave_weights_unused(model)


def _may_leave_weights_unused(model: nn.Module) -> bool:
    """Whether a forward pass over text may leave trained weights out: experts nobody asks, towers for images."""
    config = getattr(model, "config", None)
    towers = any(getattr(config, f"{kind}_config", None) is not None for kind in ("vision", "audio"))
    return towers or any("expert" in name for name, _ in model.named_parameters())


def refuse_other_strategy(asked: AskedStrategy, arguments: TrainingArguments) -> None:
    """Refuse, before the model is loaded, what accelerate would turn into something else without a word.

    Raises:
        ConfigError: the processes in force are not those asked for, or FSDP cannot run on this device.
    """
    if arguments.world_size != asked.num_processes:
        raise ConfigError(
            f"{asked.num_processes} processes were asked for by the launcher and {arguments.world_size} found each "
            "other: the others would train on their own. Start them with torchrun."
        )
    has_accelerator_types = not str(arguments.distributed_state.distributed_type).endswith(("MULTI_CPU", "NO"))
    if asked.mesh.tensor > 1 and not has_accelerator_types:
        raise ConfigError(
            f"tensor_parallel_size = {asked.mesh.tensor} was asked for, and this machine trains on its CPU, where "
            "accelerate takes no mesh of devices. Leave it out, use deepspeed (ZeRO runs on CPUs), or GPUs."
        )
    if asked.is_fsdp and not asked.mesh.is_by_library and not has_accelerator_types:
        raise ConfigError(
            f"{asked.name} was asked for by {asked.said_by}, and this machine trains on its CPU, where accelerate "
            "would run DDP instead without a word. Leave fsdp out, use deepspeed (ZeRO runs on CPUs), or a GPU."
        )
    mismatches = getattr(getattr(arguments, "hf_deepspeed_config", None), "mismatches", [])
    if mismatches:
        raise ConfigError(
            "the DeepSpeed file and the other options say different things: "
            + "; ".join(line.lstrip("- ") for line in mismatches)
            + ". Write auto in the file, or the same value in both."
        )


def refuse_other_shards(before: Mapping[str, Any] | None, asked: AskedStrategy, checkpoint: Path) -> None:
    """Refuse to go on from a checkpoint whose pieces these processes cannot take up.

    DDP, FSDP and a single process write their states whole; DeepSpeed writes one piece a process, in a form of its own.

    Args:
        before: the record of the run that wrote the checkpoint.

    Raises:
        ConfigError: it was written by other processes.
    """
    wrote = (before or {}).get("processes")
    if wrote is None:
        return
    name, number = wrote["strategy"], wrote["num_processes"]
    by_library = Mesh.of(wrote).is_by_library
    if by_library and asked.mesh.is_by_library:
        return
    if (
        by_library == asked.mesh.is_by_library
        and _kind(name) == _kind(asked.name)
        and (not asked.is_deepspeed or (name, number) == (asked.name, asked.num_processes))
    ):
        return
    raise ConfigError(
        f"cannot go on from {checkpoint}: {number} process(es) with {name} wrote it, and {asked.num_processes} with "
        f"{asked.name} were asked for, which cannot read its optimizer state. Start it as before, or train on from "
        "its weights in another output_dir: --model_name_or_path (or --adapter_name_or_path) with that folder."
    )


def _kind(name: str) -> str:
    """Strategies that read each other's checkpoints are of one kind."""
    return "whole" if name in (ALONE, DDP) else name


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
