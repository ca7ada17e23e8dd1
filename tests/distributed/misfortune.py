"""A run in which something happens to one process: ``torchrun misfortune.py options.json RANK STEP WHAT``.

WHAT: hang (it sleeps), die (SIGKILL), error (it raises), wait (``ready`` is written into the run folder, and it goes on
when there is a ``go``), none.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from sft.cli.main import _report
from sft.config import SFTConfig
from sft.errors import SftError
from sft.training.launch import rank
from sft.training.run import run_training


class Misfortune(TrainerCallback):  # type: ignore[misc]
    """Strikes one process after one step."""

    def __init__(self, at: int, step: int, what: str) -> None:
        self.at, self.step, self.what = at, step, what

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if rank() != self.at or state.global_step != self.step:
            return
        if self.what == "hang":
            time.sleep(120)
        elif self.what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.what == "wait":
            (Path(args.output_dir) / "ready").touch()
            while not (Path(args.output_dir) / "go").exists():
                time.sleep(0.05)
        elif self.what == "error":
            raise ValueError("the disk of this machine is full")


def main() -> int:
    """Train until it strikes, and report as the command line does."""
    options, at, step, what = sys.argv[1:]
    try:
        run_training(
            SFTConfig(**json.loads(Path(options).read_text())), callbacks=[Misfortune(int(at), int(step), what)]
        )
    except SftError as error:
        _report(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
