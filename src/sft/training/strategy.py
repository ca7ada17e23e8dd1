"""How the processes of a run share its work: what was asked for, by options and by the launcher."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sft.config import SFTConfig
from sft.config.files import read_file
from sft.errors import ConfigError
from sft.training.deepspeed_file import DeepSpeedSettings, read_deepspeed
from sft.training.launch import world_size
from sft.training.mesh import Mesh, asked_mesh

ALONE = "one process"
DDP = "DDP"
SHARES = {
    ALONE: "",
    DDP: "each holds the whole model, gradients are averaged",
    "TP": "each computes its share of every layer, on the same rows",
    "FSDP1": "weights, gradients and optimizer state are shared out",
    "FSDP2": "weights, gradients and optimizer state are shared out",
    "ZeRO-0": "each holds the whole model, gradients are averaged",
    "ZeRO-1": "optimizer state is shared out",
    "ZeRO-2": "gradients and optimizer state are shared out",
    "ZeRO-3": "weights, gradients and optimizer state are shared out",
}
"""Strategy -> what each process holds."""

YES = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class Strategy:
    """A number of processes and what they share."""

    name: str
    """One of ``SHARES``."""
    num_processes: int
    mesh: Mesh = field(default_factory=Mesh, kw_only=True)
    """What of it processes share."""

    @property
    def shards_weights(self) -> bool:
        """Whether no process holds all weights."""
        return self.name in ("TP", "FSDP1", "FSDP2", "ZeRO-3")

    @property
    def is_deepspeed(self) -> bool:
        return self.name.startswith("ZeRO")

    @property
    def is_fsdp(self) -> bool:
        return self.name.startswith("FSDP")


@dataclass(frozen=True)
class AskedStrategy(Strategy):
    """What the options and the launcher ask for."""

    said_by: str = "the launcher"
    """Which option or variable names the strategy."""
    deepspeed: DeepSpeedSettings | None = None
    """Set where the option ``deepspeed`` gives them; with accelerate's own DeepSpeed they come from accelerate."""


def asked_strategy(config: SFTConfig, *, on_cpu: bool) -> AskedStrategy:
    """Read what a run is to be from its config and from the variables that launchers set.

    Raises:
        ConfigError: a DeepSpeed file that cannot be used, two strategies at once, or processes that cannot be grouped
            as asked.
    """
    mesh = asked_mesh(config, world_size())
    asked = _asked_engine(config, on_cpu=on_cpu)
    if mesh.is_by_library:
        refuse_other_engine(asked, mesh)
        asked = replace(asked, name=mesh.name, said_by=" and ".join(mesh.sizes))
    return replace(asked, mesh=mesh)


def refuse_other_engine(asked: AskedStrategy, mesh: Mesh) -> None:
    """Raise ConfigError where the launcher wants another engine than transformers' own to part the weights."""
    if asked.is_deepspeed or asked.name == "FSDP1" or asked.said_by.startswith("accelerate"):
        raise ConfigError(
            f"{' and '.join(mesh.sizes)} with {asked.name} (by {asked.said_by}): transformers parts the weights "
            "itself, by FSDP2 beside them, while it loads the model. Start with torchrun, or accelerate's plain "
            "MULTI_GPU, and without deepspeed."
        )


def _asked_engine(config: SFTConfig, *, on_cpu: bool) -> AskedStrategy:
    size = world_size()
    options, environment = config.training_arguments, os.environ
    by_option = next((name for name in ("deepspeed", "fsdp") if options.get(name)), None)
    by_launcher = _launchers_word(environment)
    if by_option is not None and by_launcher not in (None, by_option):
        raise ConfigError(
            f"{by_option} = {options[by_option]!r}, and accelerate was told to use {by_launcher}: choose one. "
            f"Leave {by_option} out, or use an accelerate config of plain MULTI_GPU."
        )
    if by_option == "deepspeed":
        settings = read_deepspeed(options["deepspeed"], on_cpu=on_cpu)
        if on_cpu and config.fp16:
            raise ConfigError(
                "fp16 = true with deepspeed: DeepSpeed computes in float16 on a GPU only, and this machine has none. "
                "Give --fp16 False, with --bf16 True where the CPU has bfloat16."
            )
        return AskedStrategy(f"ZeRO-{settings.stage}", size, "deepspeed", settings)
    if by_option == "fsdp":
        return AskedStrategy(f"FSDP{_fsdp_version(options.get('fsdp_config'))}", size, "fsdp")
    if by_launcher == "deepspeed":
        return AskedStrategy(f"ZeRO-{_accelerate_stage(environment)}", size, "accelerate's deepspeed_config")
    if by_launcher == "fsdp":
        return AskedStrategy(f"FSDP{environment.get('FSDP_VERSION', '1')}", size, "accelerate's fsdp_config")
    return AskedStrategy(DDP if size > 1 else ALONE, size)


def _launchers_word(environment: Mapping[str, str]) -> str | None:
    """'deepspeed' or 'fsdp' where ``accelerate launch`` was configured for it."""
    for name in ("deepspeed", "fsdp"):
        if environment.get(f"ACCELERATE_USE_{name.upper()}", "").lower() in YES:
            return name
    return None


def _fsdp_version(given: str | Mapping[str, Any] | None) -> int:
    values: Mapping[str, Any] = given or {}  # type: ignore[assignment]
    if isinstance(given, str):
        values = {key: raw.value for key, raw in read_file(given).items()}
    return int(values.get("version", values.get("fsdp_version", 2)))


def _accelerate_stage(environment: Mapping[str, str]) -> int:
    path = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if path.lower() not in ("", "none"):
        values = {key: raw.value for key, raw in read_file(Path(path)).items()}
        return int(values.get("zero_optimization", {}).get("stage", 0))
    return int(environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
