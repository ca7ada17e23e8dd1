"""Measures a program that makes its own trainer out of sight, as long as that is one of transformers' Trainers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from training_work import Clock, Figures


def measure_hidden_trainer(run: Callable[[], Any], steps: int, *, pad_id: int) -> Figures:
    """Run a program to its end and return the figures of the one training it does.

    Tokens are those that are not ``pad_id``, which no row holds.
    """
    from transformers import Trainer, TrainerCallback

    clocks: list[Clock] = []
    trainers: list[Any] = []
    train = Trainer.train

    class Ends(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clocks[0].ends.append(time.perf_counter())

    def count(batch: Any) -> int:
        return int((batch["input_ids"] != pad_id).sum())

    def timed_train(self: Any, *args: Any, **kwargs: Any) -> Any:
        clocks.append(Clock(self.data_collator, count))
        trainers.append(self)
        self.data_collator = clocks[0]
        self.add_callback(Ends())
        return train(self, *args, **kwargs)

    Trainer.train = timed_train
    try:
        run()
    finally:
        Trainer.train = train
    losses = [entry["loss"] for entry in trainers[0].state.log_history if "loss" in entry]
    return clocks[0].figures(losses, steps)
