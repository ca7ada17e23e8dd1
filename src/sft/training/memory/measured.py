"""What the first step really took, beside what was estimated; and the whole run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.export.memory import PeakMemory, code_memory, resident_memory, return_freed_memory
from sft.export.merge_result import describe_bytes
from sft.training.launch import announce, is_main_process
from sft.training.memory.fit import DOUBT, Fit
from sft.training.record import read_record, write_record

REUSED = (
    "memory: what the first step took cannot be told, for this process uses again what an earlier run in it had freed"
)


@dataclass(frozen=True)
class Before:
    """This process before the model was loaded."""

    resident: int
    code: int

    @classmethod
    def now(cls) -> Before:
        """As it is now, but for what was freed: what comes would use it again, and not be seen."""
        return_freed_memory()
        return cls(resident_memory() or 0, code_memory())


class Gauge:
    """The most memory since it was started, without what the process held before the model.

    On a GPU what PyTorch has given out; on a CPU what is resident, less code that was loaded meanwhile.
    """

    def __init__(self, before: Before) -> None:
        self.before = before
        self._resident = PeakMemory()

    def start(self) -> None:
        """Forget what was before, and what loading the model left free."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        else:
            return_freed_memory()
            self._resident.__enter__()

    def read(self) -> int | None:
        """Bytes; None where the system does not say."""
        if torch.cuda.is_available():
            return int(torch.cuda.max_memory_allocated())
        peak = self._resident.highest()
        if peak is None:
            return None
        return peak - self.before.resident - (code_memory() - self.before.code)


class MemoryWatch(TrainerCallback):  # type: ignore[misc]
    """Writes what the first step and the run took into run.json, and says how far the estimate was from it."""

    def __init__(self, fit: Fit, before: Before, folder: Path, say: Callable[[str], None] = announce) -> None:
        self.fit, self.folder, self.say = fit, folder, say
        self.gauge = Gauge(before)
        self._steps = 0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._steps == 0:
            self.gauge.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._steps += 1
        if self._steps > 1:
            return
        measured = self.gauge.read()
        if measured is None:
            return
        if measured < size_of_weights(kwargs["model"]):
            self.say(REUSED)
            return
        self.say(describe_first_step(measured, self.fit))
        self._note("first_step_measured_bytes", measured)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        measured = self.gauge.read() if self._steps else None
        if measured is not None and measured >= size_of_weights(kwargs["model"]):
            self._note("run_measured_bytes", measured)

    def _note(self, name: str, value: int) -> None:
        if is_main_process():
            record = read_record(self.folder) or {}
            write_record(self.folder, {**record, "memory": {**(record.get("memory") or {}), name: value}})


def size_of_weights(model: nn.Module) -> int:
    """Bytes of the weights that lie on a CPU or GPU in this process; less was never taken by a step."""
    return sum(weight.numel() * weight.element_size() for weight in model.parameters() if not weight.is_meta)


def describe_first_step(measured: int, fit: Fit) -> str:
    """One line: fact, estimate, and what comes with the second step."""
    expected = fit.estimate.first_step
    off = expected / max(1, measured) - 1
    verdict = f"{abs(off):.0%} {'more' if off > 0 else 'less'}"
    if off < 0 and fit.estimate.leaves_holes:
        verdict += ", the holes that keep_cpu_memory leaves among it"
    elif abs(off) > DOUBT:
        verdict += ": further off than estimates should be"
    line = f"memory: the first step, the heaviest, took {describe_bytes(measured)} at most; {describe_bytes(expected)} "
    line += f"were estimated, {verdict}"
    more = fit.estimate.training_peak.total - expected
    if more > 0:
        line += f". From the second step on the optimizer's states stand beside: {describe_bytes(measured + more)}"
    return line
