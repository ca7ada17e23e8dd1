"""What a child of the nursery does to itself before its run begins: the disk, the clock and the weights misbehave."""

from __future__ import annotations

import errno
import os
import shutil
import time
from typing import Any


def full_disk_at(order: dict[str, Any]) -> None:
    """The disk is full while the checkpoint of step ``order["step"]`` is written."""
    from sft.training.checkpoints import tensor_file

    write = tensor_file._write

    def refuse(file: Any, block: memoryview) -> int:
        if f".saving-{order['step']}/training_state" in file.name:
            write(file, block[: len(block) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, block)

    tensor_file._write = refuse


def little_room(order: dict[str, Any]) -> None:
    """The disk has room for half a checkpoint."""
    usage = shutil.disk_usage("/")
    shutil.disk_usage = lambda path: usage._replace(free=10 << 20)


def read_only(order: dict[str, Any]) -> None:
    """The run folder is on a file system that is mounted read-only."""
    opened = os.open

    def refuse(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if str(path).startswith(order["config"]["output_dir"]) and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *args, **kwargs)

    os.open = refuse


def clock_goes_back(order: dict[str, Any]) -> None:
    """Every look at the clock is an hour before the last one, and so are the times of new checkpoints."""
    from sft.training.checkpoints import write

    now, move = [time.time()], write.move_into_place

    def earlier() -> float:
        now[0] -= 3600
        return now[0]

    def dated(folder: Any, place: Any) -> None:
        move(folder, place)
        os.utime(place, (earlier(), now[0]))

    time.time = earlier
    write.move_into_place = dated


def weights_are_lost_at(order: dict[str, Any]) -> None:
    """A weight becomes NaN in step ``order["step"]``."""
    from sft.training.checkpoints.saving import SavingTrainer

    save = SavingTrainer._save_checkpoint

    def lost(trainer: Any, model: Any, trial: Any) -> None:
        if trainer.state.global_step == order["step"]:
            next(weight for weight in model.parameters() if weight.requires_grad).data.view(-1)[3] = float("nan")
        save(trainer, model, trial)

    SavingTrainer._save_checkpoint = lost
