"""The metrics file: written beside the training steps, read by whoever shows a run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.export.memory import resident_memory
from sft.training.checkpoints.disk import append_line, write_whole

METRICS = "metrics.jsonl"


class MetricsFile(TrainerCallback):  # type: ignore[misc]
    """One JSON object a logged step in ``metrics.jsonl``; a resumed run drops what came after its checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        kept = [
            line for line in read_metrics(self.path) if state.global_step and line.get("step", 0) <= state.global_step
        ]
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not state.is_world_process_zero or logs is None:
            return
        line = {"step": state.global_step, "epoch": round(state.epoch or 0, 4), "time": round(time.time(), 3), **logs}
        if "loss" in logs:
            line.update(memory_now())
        append_line(self.path, json.dumps(line))


def memory_now() -> dict[str, float]:
    """What this process holds, in GiB: the most that PyTorch has given out of its GPU, or what is resident."""
    if torch.cuda.is_available():
        return {"memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 3)}
    found = resident_memory()
    return {} if found is None else {"memory_gib": round(found / 2**30, 3)}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The objects of a metrics file, in order; empty if there is none. A line that a crash cut off is left out."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            lines.append(entry)
    return lines
