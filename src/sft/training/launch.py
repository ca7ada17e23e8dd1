"""Which process of how many this is, known from the launcher before any process group exists."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from sft.errors import ConfigError
from sft.terminal.plain import message
from sft.terminal.screen import SCREEN

SPOKEN = logging.getLogger("sft.run")
"""Gets what is announced. It has no handler, so that nothing comes of it, unless a run keeps a log."""
SPOKEN.setLevel(logging.INFO)
SPOKEN.propagate = False

SIZE_NAMES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANK_NAMES = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Environment variables of torchrun, accelerate and deepspeed (the first of each), and of MPI."""


def world_size() -> int:
    """Number of processes that torchrun, accelerate, deepspeed or MPI started; 1 without any of them."""
    return _first_of(SIZE_NAMES, 1)


def rank() -> int:
    """The number of this process among them, from 0."""
    return _first_of(RANK_NAMES, 0)


def local_rank() -> int:
    """The number of this process on its machine, from 0."""
    return _first_of(("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK"), 0)


def has_launcher() -> bool:
    """Whether a launcher started this process, be it the only one."""
    return "LOCAL_RANK" in os.environ or world_size() > 1


def is_main_process() -> bool:
    """Whether this is the one process that speaks and writes."""
    return rank() == 0


def let_first_speak(seconds: float = 10.0) -> str:
    """Before a message that all processes of a machine may have: wait, except in its first one.

    A launcher ends the others as soon as one has ended, so that a message stands there once. A process that is still
    there afterwards has something of its own to say.

    Returns:
        Who speaks, to be put before the message; empty for the first process of all.
    """
    if local_rank() > 0:
        time.sleep(seconds)
    return f"rank {rank()} of {world_size()}: " if rank() > 0 else ""


def announce(text: str = "") -> None:
    """Print lines for people, once for all processes, beside the output that programs read."""
    _speak(text, must_be_heard=False)


def warn(text: str) -> None:
    """The same for what went wrong, which ``quiet`` does not silence."""
    _speak(text, must_be_heard=True)


def _speak(text: str, *, must_be_heard: bool) -> None:
    if is_main_process():
        SCREEN.say(text, must_be_heard=must_be_heard)
        SPOKEN.info(message(text))


def doing(what: str) -> AbstractContextManager[None]:
    """Show in the line that changes what is going on, in the first process."""
    return SCREEN.doing(what) if is_main_process() else nullcontext()


def quiet_libraries() -> None:
    """Keep other libraries' bars and notices out of our output; their errors still show."""
    import torch
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed warns of what it finds out by itself
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if not (is_main_process() and SCREEN.is_live):
        disable_progress_bars()  # of downloads, which are nice to see where somebody looks, and nowhere else
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    if not is_main_process():
        logging.getLogger("sft").setLevel(logging.ERROR)  # one process tells what all of them find
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|accelerate)\..*")
    warnings.filterwarnings("ignore", category=FutureWarning, message=r"`torch\.distributed\.\w+` is deprecated")


def refuse_lost_processes(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to run alone where several processes were asked for.

    Raises:
        ConfigError: the launcher started one process of several, or several that do not know of each other.
    """
    if any(name in environment for name in (*SIZE_NAMES, "LOCAL_RANK")):
        return
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS") or 1)
    if tasks > 1:
        raise ConfigError(
            f"srun started {tasks} processes of this program, and each would train on its own: nothing tells them of "
            "each other. Start one torchrun a node and let it start the processes: "
            "srun --ntasks-per-node=1 torchrun --nnodes=... --nproc_per_node=... -m sft train ... "
            "(docs/many-machines.md has the script)."
        )
    if "ACCELERATE_MIXED_PRECISION" in environment and _set_by_parent("MASTER_ADDR", environment):
        raise ConfigError(
            "accelerate launch was asked for several processes and started one: with --cpu it leaves starting the "
            "others to mpirun. For several processes on CPUs write `accelerate launch --multi_gpu --num_processes N` "
            "without --cpu, or `torchrun --standalone --nproc_per_node=N -m sft train ...`; "
            "for one process, --num_processes 1."
        )


def advise_all_devices(count: int) -> str | None:
    """How to use all GPUs of a machine, where this single process would use one of them."""
    if count <= 1 or has_launcher():
        return None
    program = Path(sys.argv[0]).name
    words = shlex.join(sys.argv[1:])
    what = f"-m sft {words}" if program in ("sft", "__main__.py") else f"{sys.argv[0]} {words}"
    return (
        f"note: this machine has {count} GPUs and one process uses one of them. To use all: "
        f"torchrun --standalone --nproc_per_node={count} {what.strip()}"
    )


def _first_of(names: tuple[str, ...], default: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), default)


def _set_by_parent(name: str, environment: Mapping[str, str]) -> bool:
    """Whether the parent process set a variable for us, as opposed to handing on what the user had exported."""
    if name not in environment:
        return False
    try:
        inherited = Path(f"/proc/{os.getppid()}/environ").read_bytes().split(b"\0")
    except OSError:
        return True  # no Linux: it cannot be told apart
    return not any(entry.startswith(f"{name}=".encode()) for entry in inherited)
