"""The smallest change that makes a run fit, each tried by an estimate of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.export.merge_result import describe_bytes
from sft.training.cpu_memory import is_glibc
from sft.training.memory.estimate import Estimate, Followed, Unknown, follow, put_together
from sft.training.memory.fit import Fit
from sft.training.memory.place import Place
from sft.training.memory.states import BITSANDBYTES, TORCHAO
from sft.training.plan import Plan
from sft.training.strategy import AskedStrategy

DEVICES = (2, 4, 8, 16, 32, 64)
"""Numbers of devices over which a model is shared out in a proposal."""

Change = Mapping[str, Any]


@dataclass(frozen=True)
class Proposal:
    """A change of a run, and what it would need then."""

    change: Change
    """Options and their new values."""
    devices: int | None
    """Over how many the weights would be shared out (fsdp); None: as asked."""
    estimate: Estimate
    fits: bool

    def describe(self) -> str:
        """'--gradient_checkpointing true: 3.2 GB', for people."""
        words = [f"--{name} {_written(value)}" for name, value in self.change.items()]
        if self.devices is not None:
            words.append(f"fsdp on {self.devices} devices")
        verdict = "" if self.fits else ", not enough alone"
        return f"{' '.join(words)}: {describe_bytes(self.estimate.training_peak.total)}{verdict}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        peak = self.estimate.training_peak.total
        return {"change": dict(self.change), "devices": self.devices, "peak_bytes": peak, "fits": self.fits}


def propose(
    config: SFTConfig,
    strategy: AskedStrategy,
    place: Place,
    *,
    plan: Plan | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[Proposal]:
    """Changes from the smallest to the largest, each alone; behind them, where none is enough, several together.

    The list ends with the first that fits, or with what needs least.
    """
    tried: list[Proposal] = []
    followed: dict[tuple[str, bool], Followed] = {}
    for change, devices in _attempts(config, strategy, place):
        changed = _changed(config, change)
        shared = strategy if devices is None else replace(strategy, name="FSDP2", num_processes=devices)
        if changed is None:
            continue
        key = (repr(change), devices is None)
        try:
            if key not in followed:
                followed[key] = follow(changed, shared, place, plan=plan, tokenizer=tokenizer)
        except Unknown:
            continue
        found = put_together(changed, followed[key], shared, place)
        tried.append(Proposal(change, devices, found, Fit(found, place).fits))
        if tried[-1].fits:
            break
    return tried


def _attempts(config: SFTConfig, strategy: AskedStrategy, place: Place) -> Iterator[tuple[Change, int | None]]:
    changes = list(_changes(config, place))
    for change in changes:
        yield change, None
    gentle: dict[str, Any] = {}
    for change in changes:
        if "use_lora" not in change:
            gentle |= change
    yield gentle, None
    without_optimizer = {name: value for name, value in gentle.items() if name != "optim"}
    for change in changes:
        if "use_lora" in change:
            yield {**without_optimizer, **change}, None
    for devices in DEVICES if place.on_accelerator else ():
        if devices > strategy.num_processes:
            yield without_optimizer, devices


def describe_proposals(proposals: list[Proposal]) -> str:
    """The one that fits first, then what else was tried."""
    fitting = [one for one in proposals if one.fits]
    if not proposals:
        return "No smaller form of it is known here; take a smaller model or a larger device."
    listed = "; ".join(one.describe() for one in proposals)
    if fitting:
        return f"The smallest change that fits: {fitting[0].describe()}. Tried in this order: {listed}."
    return f"None of these is enough: {listed}. Take a smaller model, shorter rows (max_length) or larger devices."


def _changes(config: SFTConfig, place: Place) -> Iterator[Change]:
    """From what costs time only to what changes the training itself."""
    if not place.on_accelerator and config.keep_cpu_memory and is_glibc():
        yield {"keep_cpu_memory": False}
    if not config.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    rows = config.per_device_train_batch_size
    while rows > 1 and rows % 2 == 0:
        rows //= 2
        factor = config.per_device_train_batch_size // rows
        yield {
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": config.gradient_accumulation_steps * factor,
        }
    if (optimizer := _smaller_optimizer(config, place)) is not None:
        yield {"optim": optimizer}
    if not config.use_lora and config.stage != "pretrain":
        yield {"use_lora": True}
    if not config.load_in_4bit and importlib.util.find_spec("bitsandbytes") is not None:
        yield {"use_lora": True, "load_in_4bit": True}


def _smaller_optimizer(config: SFTConfig, place: Place) -> str | None:
    if "8bit" in config.optim or "4bit" in config.optim or config.optim in ("adafactor", "sgd", "lomo"):
        return None
    if place.kind == "cuda" and importlib.util.find_spec("bitsandbytes") is not None:
        return "adamw_8bit"
    return "adafactor" if config.optim not in BITSANDBYTES and config.optim not in TORCHAO else None


def _changed(config: SFTConfig, change: Change) -> SFTConfig | None:
    try:
        return config.replace(**change)
    except ConfigError:
        return None  # it does not go with the rest of this config


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
