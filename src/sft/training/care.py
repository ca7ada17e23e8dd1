"""What a run does about steps that go wrong and signals that come: put together here, each told by its own module."""

from __future__ import annotations

from pathlib import Path

from sft.data.collate import TrainingRows
from sft.data.token_batches import RowGroups
from sft.training.bad_steps import BadStepGuard
from sft.training.base import RunTrainer
from sft.training.incidents import Incidents, rows_of_step
from sft.training.stopping import StopWhenAsked
from sft.training.window_rows import WindowRows


def take_care(trainer: RunTrainer, folder: Path, *, max_bad_steps: int, go_on: str) -> None:
    """Leave out steps that are not finite, mark spikes, record both and memory that ran out; stop when asked to.

    ``go_on`` says how a run that was stopped is gone on with.
    """
    incidents = Incidents(folder, writes=trainer.is_world_process_zero())
    args = trainer.args
    per_step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size

    def rows_of(step: int) -> list[str]:
        rows = trainer.train_dataset
        if not isinstance(rows, (TrainingRows, RowGroups, WindowRows)):
            return []
        return rows_of_step(trainer.order, rows, step=step, per_step=per_step)

    def memory_ran_out(step: int) -> None:
        incidents.add("out of memory", step, rows_of(step - 1), parts=trainer.parts)

    trainer.on_out_of_memory = memory_ran_out
    trainer.guard = BadStepGuard(incidents, rows_of, most=max_bad_steps)
    trainer.stopper = StopWhenAsked(folder, go_on)
    trainer.add_callback(incidents)
    trainer.add_callback(trainer.stopper)
