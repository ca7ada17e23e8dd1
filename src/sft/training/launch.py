"""Which process of how many this is, known from the launcher before any process group exists."""

from __future__ import annotations

import logging
import os
import sys
import warnings


def world_size() -> int:
    """Number of processes that torchrun, accelerate, deepspeed or Slurm's srun under them started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the one process that speaks and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def announce(text: str = "") -> None:
    """Print a line for people, once for all processes, beside the output that programs read."""
    if is_main_process():
        print(text, file=sys.stderr, flush=True)


def quiet_libraries() -> None:
    """Keep other libraries' bars and notices out of our output; their errors still show."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|accelerate)\..*")
