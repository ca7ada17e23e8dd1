"""How far a training is: one line that changes on a terminal, a line for every logged step anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.export.memory import resident_memory
from sft.export.merge_result import describe_bytes
from sft.terminal.line import clock, compose
from sft.terminal.screen import SCREEN


class Progress(TrainerCallback):  # type: ignore[misc]
    """Steps, loss, tokens per second, time left and memory; while it evaluates, how far that is."""

    def __init__(self) -> None:
        self._state: TrainerState | None = None
        self._logs: Mapping[str, float] = {}
        self._pace = Pace()
        self._memory = ""
        self._evaluated, self._to_evaluate = 0, 0
        self._untrained: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._state, self._logs, self._pace = state, {}, Pace()
            self._memory = describe_memory()
            self._untrained = next((one["eval_loss"] for one in state.log_history if is_untrained(one)), None)
            SCREEN.show(self.draw)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._state is not None:
            self._pace.step(state.global_step)
            SCREEN.show(self.draw)

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        if self._state is not None:
            self._evaluated += 1
            self._to_evaluate = 0 if eval_dataloader is None else len(eval_dataloader)
            SCREEN.show(self.draw, at_once=self._evaluated == 1)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._evaluated = 0

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if self._state is None or logs is None:
            return
        if "eval_loss" in logs:
            untrained, self._evaluated = self._untrained, 0
            if not state.global_step:
                self._untrained = logs["eval_loss"]
            than = "" if untrained is None else f", {untrained:.4f} untrained"
            SCREEN.say(f"step {state.global_step}: {describe_evaluation(logs)}{than}")
        if "loss" in logs:
            self._logs, self._memory = dict(logs), describe_memory()
            if not SCREEN.is_live:
                SCREEN.say(self.one_line(state))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        SCREEN.hide(self.draw)

    def one_line(self, state: TrainerState) -> str:
        """A logged step where nothing changes in place."""
        left = self._pace.seconds_left(state.max_steps)
        figures = [describe_loss(self._logs), describe_rate(self._logs), f"{clock(left)} left", self._memory]
        return f"step {state.global_step}/{state.max_steps}: {', '.join(filter(None, figures))}"

    def draw(self, width: int) -> str:
        """The line that changes."""
        state = self._state
        if state is None:
            return ""
        step, steps, logs = state.global_step, state.max_steps, self._logs
        head = f"step {step:,}/{steps:,}"
        if self._evaluated:
            batches = f"{self._evaluated:,}" + (f" of {self._to_evaluate:,}" if self._to_evaluate else "")
            return compose(f"{head}: evaluating, {batches} batches", self._share_evaluated(), [], width)
        rates = [f"{logs[name]:,.0f}" if name in logs else "" for name in RATES]
        figures = [
            (0, f"loss {logs['loss']:.4f}" if "loss" in logs else ""),
            (5, describe_preference(logs)),
            (2, f"{rates[0]} trained tok/s" if rates[0] else ""),
            (4, f"{rates[1]} tok/s in all" if rates[1] else ""),
            (1, f"{clock(self._pace.seconds_left(steps))} left"),
            (3, self._memory),
        ]
        return compose(head, step / max(1, steps), figures, width)

    def _share_evaluated(self) -> float | None:
        return self._evaluated / self._to_evaluate if self._to_evaluate else None


RATES = ("trained_tokens_per_second", "tokens_per_second")


class Pace:
    """How long steps take. The first one, which compiles and fills caches, is not counted."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._last = (0, 0.0)

    def step(self, number: int) -> None:
        """A step is done."""
        self._last = (number, time.monotonic())
        self._first = self._first or self._last

    def seconds_left(self, steps: int) -> float | None:
        """Of ``steps`` in all; None until two are done."""
        if self._first is None or self._last[0] <= self._first[0]:
            return 0.0 if self._last[0] >= steps else None
        each = (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])
        return each * (steps - self._last[0])


def describe_evaluation(logs: Mapping[str, float]) -> str:
    """The evaluation loss, and what it is taken over: trained tokens, or pairs of answers."""
    if "eval_rewards/margins" in logs:
        return "evaluation " + describe_loss({name.removeprefix("eval_"): value for name, value in logs.items()})
    tokens = f"{logs['eval_trained_tokens']:,.0f} of them"
    return f"evaluation loss {logs['eval_loss']:.4f} per trained token ({tokens})"


def describe_loss(logs: Mapping[str, float]) -> str:
    """The loss; of pairs of answers also how far apart they are, and how many of them are in the right order."""
    more = describe_preference(logs)
    return f"loss {logs['loss']:.4f}" + (f", {more}" if more else "")


def describe_preference(logs: Mapping[str, float]) -> str:
    """What only pairs of answers have; else nothing."""
    if "rewards/margins" not in logs:
        return ""
    return f"reward margin {logs['rewards/margins']:.4f}, {logs['rewards/accuracies']:.0%} in the right order"


def describe_rate(logs: Mapping[str, float]) -> str:
    """Tokens a second, and how many of them carry loss."""
    trained, read = (logs.get(name) for name in RATES)
    return "" if read is None or trained is None else f"{read:,.0f} tokens/s, {trained:,.0f} of them trained"


def describe_memory() -> str:
    """What this process holds: of its GPU, or of the machine's memory."""
    if torch.cuda.is_available():
        return f"GPU {describe_bytes(torch.cuda.memory_reserved())}"
    found = resident_memory()
    return "" if found is None else f"RAM {describe_bytes(found)}"


def is_untrained(entry: Mapping[str, float]) -> bool:
    """Whether a line of the history is the evaluation of step 0."""
    return entry.get("step") == 0 and "eval_loss" in entry
