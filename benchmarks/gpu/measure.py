"""Times the steps of a trainer that is ready, and what the machine itself can do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

WARM_UP = 5
TIMED = 20
PROFILED = 3

Figures = dict[str, Any]


class Counter:
    """Counts tokens of batches as they are collated: all that are no padding, and those that are trained."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate
        self.counts: list[tuple[int, int]] = []

    def __call__(self, rows: Any) -> Any:
        batch = self.collate(rows)
        if "num_tokens" in batch:
            self.counts.append((int(batch["num_tokens"]), int(batch["num_trained"])))
        else:
            trained = int((batch["labels"] != -100).sum())
            mask = batch.get("attention_mask")
            self.counts.append((int(batch["input_ids"].numel() if mask is None else (mask != 0).sum()), trained))
        return batch

    def of_steps(self, first: int, last: int, batches_per_step: int) -> tuple[int, int]:
        """Tokens and trained tokens of the steps from ``first`` up to ``last``, counted from 0."""
        counts = self.counts[first * batches_per_step : last * batches_per_step]
        return sum(tokens for tokens, _ in counts), sum(trained for _, trained in counts)


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Times each step, by the GPU's own clock where there is one; profiles the last few."""

    def __init__(self, *, on_gpu: bool, timed_until: int, profiled: int) -> None:
        self.on_gpu, self.timed_until, self.profiled = on_gpu, timed_until, profiled
        self.marks: list[tuple[Any, Any]] = []
        self.first_step_end: float | None = None
        self.profiler: Any = None
        self.profile_started = self.profile_seconds = 0.0
        self._begin: Any = None

    def _now(self) -> Any:
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock; at the first profiled step the profiler."""
        if state.global_step == self.timed_until and self.on_gpu and self.profiled:
            torch.cuda.synchronize()
            self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
            self.profiler.__enter__()
            self.profile_started = time.perf_counter()
        self._begin = self._now()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop the clock."""
        self.marks.append((self._begin, self._now()))
        if self.first_step_end is None:
            if self.on_gpu:
                torch.cuda.synchronize()
            self.first_step_end = time.perf_counter()
        if self.profiler is not None and state.global_step == self.timed_until + self.profiled:
            torch.cuda.synchronize()
            self.profile_seconds = time.perf_counter() - self.profile_started
            self.profiler.__exit__(None, None, None)

    def seconds(self) -> list[float]:
        """Of every step."""
        if self.on_gpu:
            torch.cuda.synchronize()
            return [begin.elapsed_time(end) / 1000 for begin, end in self.marks]
        return [end - begin for begin, end in self.marks]

    def idle_share(self) -> float | None:
        """One less the share of the profiled steps in which a kernel ran; None where nothing was profiled."""
        if self.profiler is None or not self.profile_seconds:
            return None
        busy = sum(event.self_device_time_total for event in self.profiler.key_averages()) / 1e6
        return max(0.0, 1 - busy / self.profile_seconds)


def measure_trainer(trainer: Any, *, warm_up: int = WARM_UP, timed: int = TIMED, profiled: int = PROFILED) -> Figures:
    """Train ``warm_up + timed + profiled`` steps, which the trainer was made for, and tell of the timed ones.

    The median of the steps' seconds is taken, so that one that compiles or collects garbage does not count.
    """
    on_gpu = torch.cuda.is_available() and trainer.args.device.type == "cuda"
    counter = Counter(trainer.data_collator)
    watch = Stopwatch(on_gpu=on_gpu, timed_until=warm_up + timed, profiled=profiled)
    trainer.data_collator = counter
    trainer.add_callback(watch)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    loss = trainer.train().training_loss
    seconds = watch.seconds()[warm_up : warm_up + timed]
    tokens, trained = counter.of_steps(warm_up, warm_up + timed, trainer.args.gradient_accumulation_steps)
    per_step = statistics.median(seconds)
    return {
        "step_seconds": per_step,
        "step_seconds_all": [round(one, 5) for one in seconds],
        "tokens_per_second": tokens / timed / per_step,
        "trained_tokens_per_second": trained / timed / per_step,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
        "first_step_seconds": None if watch.first_step_end is None else watch.first_step_end - started,
        "idle_share": watch.idle_share(),
        "mean_loss": float(loss),
    }


def ceilings(size: int = 8192) -> Figures:
    """What this GPU does at best: a product of square matrices in bfloat16, and a copy; TFLOP/s and TB/s."""
    one = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    product = best_of(lambda: one @ one)
    source = torch.empty(2**30, device="cuda", dtype=torch.uint8)
    copied = best_of(source.clone)
    return {"matmul_tflops": 2 * size**3 / product / 1e12, "copy_tbs": 2 * source.numel() / copied / 1e12}


def best_of(run: Callable[[], Any], *, warm_up: int = 10, rounds: int = 30) -> float:
    """Seconds of the median run on a GPU."""
    for _ in range(warm_up):
        run()
    marks = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        marks.append((begin, end))
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in marks) / 1000
