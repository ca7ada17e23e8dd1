"""A process that has imported everything and forks two that are the ranks of one launch.

    python pair.py     reads the file of scenarios (``worker.py``) of a launch a line, and answers with its exit status

A launch has nothing of one before but its files. What both ranks say is written to ``output.txt`` beside the file.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from socket import socket

RANKS = 2
LIMIT = 400.0
"""Seconds that a launch may take."""


def start(file: Path, rank: int, port: int) -> int:
    """A rank, with what a launcher tells it; returns its process id."""
    if child := os.fork():
        return child
    import torch
    import worker

    status = 1
    try:
        output = os.open(file.with_name("output.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        torch.set_num_threads(1)  # made anew, for a fork has no threads of its parent's pool
        name = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "LOCAL_WORLD_SIZE": RANKS, "MASTER_PORT": port}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", **{key: str(value) for key, value in name.items()}}
        worker.main(file)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run(file: Path) -> int:
    """Both ranks to their end; where one fails or takes too long, the other ends with it."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [start(file, rank, port) for rank in range(RANKS)]
    deadline, failed = time.monotonic() + LIMIT, 0
    while children:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            children.remove(child)
            failed = failed or status
        elif not failed and time.monotonic() < deadline:
            time.sleep(0.02)
            continue
        if children and (failed or time.monotonic() > deadline):
            failed = failed or 1
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            children.clear()
    return failed


def main() -> None:
    """Import, say so, and start what is asked for until nothing more is."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed is no answer
    if importlib.util.find_spec("deepspeed"):
        import deepspeed  # noqa: F401
    import peft.peft_model  # noqa: F401
    import transformers.models.qwen3.modeling_qwen3
    import transformers.models.qwen3_moe.modeling_qwen3_moe  # noqa: F401
    import worker  # noqa: F401

    gc.freeze()  # what is there already need be looked through, and copied, by no child
    print("ready", file=answers)
    for line in sys.stdin:
        print(run(Path(line.rstrip("\n"))), file=answers)


if __name__ == "__main__":
    main()
