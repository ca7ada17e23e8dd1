"""What happens beside the training steps: the progress bar, the metrics file, answers to the user's questions."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sft.training.checkpoints.disk import append_line, write_whole

METRICS = "metrics.jsonl"


class Progress(TrainerCallback):  # type: ignore[misc]
    """Steps, loss, tokens per second and time left: one bar on a terminal, a line per logged step anywhere else."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._speaks = False
        self._started = 0.0
        self._first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._speaks = state.is_world_process_zero
        self._started, self._first_step = time.monotonic(), state.global_step
        if self._speaks and sys.stderr.isatty():
            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="training", unit="step", dynamic_ncols=True
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.update(1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not self._speaks or logs is None:
            return
        if "eval_loss" in logs:
            self._say(f"step {state.global_step}: {describe_evaluation(logs)}")
        if "loss" in logs:
            figures = f"{describe_loss(logs)}, {logs['tokens_per_second']:,.0f} tokens/s"
            if self._bar is not None:
                self._bar.set_postfix_str(figures)
            else:
                self._say(f"step {state.global_step}/{state.max_steps}: {figures}, {self._time_left(state)} left")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def _time_left(self, state: TrainerState) -> str:
        done = max(1, state.global_step - self._first_step)
        seconds = (time.monotonic() - self._started) / done * (state.max_steps - state.global_step)
        return str(tqdm.format_interval(seconds))


def describe_evaluation(logs: Mapping[str, float]) -> str:
    """The evaluation loss, and what it is taken over: trained tokens, or pairs of answers."""
    if "eval_rewards/margins" in logs:
        return "evaluation " + describe_loss({name.removeprefix("eval_"): value for name, value in logs.items()})
    tokens = f"{logs['eval_trained_tokens']:,.0f} of them"
    return f"evaluation loss {logs['eval_loss']:.4f} per trained token ({tokens})"


def describe_loss(logs: Mapping[str, float]) -> str:
    """The loss; of pairs of answers also how far apart they are, and how many of them are in the right order."""
    text = f"loss {logs['loss']:.4f}"
    if "rewards/margins" not in logs:
        return text
    return f"{text}, reward margin {logs['rewards/margins']:.4f}, {logs['rewards/accuracies']:.0%} in the right order"


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
        append_line(self.path, json.dumps(line))


class AnsweredQuestions(TrainerCallback):  # type: ignore[misc]
    """Every so many steps the model answers the user's questions into ``gen_results/gen_step_N.json``."""

    def __init__(
        self, questions: Sequence[str], answer: Callable[[Any, Sequence[str]], list[str]], *, folder: Path, every: int
    ) -> None:
        self.questions = questions
        self.answer = answer
        self.folder = folder / "gen_results"
        self.every = every

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.every:
            return
        outputs = self.answer(kwargs["model"], self.questions)
        if not state.is_world_process_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        answered = [
            {"question": question, "output": output} for question, output in zip(self.questions, outputs, strict=True)
        ]
        path = self.folder / f"gen_step_{state.global_step}.json"
        path.write_text(json.dumps(answered, ensure_ascii=False, indent=2), encoding="utf-8")


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
