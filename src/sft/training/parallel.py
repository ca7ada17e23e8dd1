"""Starting the processes of a run as asked, and refusing beforehand what would run otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.models.context import ContextGroup, context_groups
from sft.training.launch import has_launcher, local_rank, rank
from sft.training.mesh import Mesh
from sft.training.peers import connect
from sft.training.strategy import ALONE, DDP, AskedStrategy

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
