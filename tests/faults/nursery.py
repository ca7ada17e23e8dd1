"""A process that has imported everything and forks a child for each run, so that a run takes a part of a second.

    python nursery.py     reads one JSON object a line, does what it says, and answers with one line

An order: ``config`` (options of a run), and how it dies: ``after`` (seconds from its start to kill -9, or to the number
``signal``, which comes ``times``; SIGSTOP, for ``asleep`` seconds), ``at`` (the number of the write or delete in its
folder before which it kills itself), or neither. ``here`` runs it without a child. ``script`` names a function of
``scripts.py`` that is called in the child before the run; ``limit`` is the largest file in bytes that it may write.
``ranks``: so many children are one run, as a launcher starts them, each in the network namespace that ``hosts`` names
for it; ``strikes`` is what happens to one of them (``misfortune.py``: rank, step, what), ``patience`` the seconds that
the others have after its failure.

The answer: ``died`` (by a signal), ``error`` (its message), ``points`` (writes and deletes so far), ``said`` (its
standard error), ``seconds``; of several ranks it is the first one's, with the answers of all in ``ranks``.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from socket import socket
from tempfile import TemporaryFile
from typing import Any

PATIENCE = 10.0
"""Seconds that the other ranks have when the first one has ended well."""
NETWORK = 0x40000000
"""CLONE_NEWNET."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
PATHS = {"open": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.mkdir": (0,), "os.truncate": (0,)}


class Points:
    """Counts what this process is about to write to or delete in a folder, and kills it before a chosen one."""

    def __init__(self, folder: Path, at: int | None) -> None:
        self.folder = str(folder)
        self.at = at
        self.count = 0
        self.names: list[str] = []
        self._lock = threading.Lock()

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Python's own hook: it sees every call, whichever library makes it."""
        places = PATHS.get(event)
        if places is None or (event == "open" and not (isinstance(args[2], int) and args[2] & WRITING)):
            return
        paths = [os.fspath(args[place]) for place in places if isinstance(args[place], str | os.PathLike)]
        if event == "os.mkdir" and os.path.isdir(paths[0]):
            return  # nothing is made
        if any(str(path).startswith(self.folder) for path in paths):
            self.reach(f"{event} {' '.join(os.path.relpath(path, self.folder) for path in paths)}")

    def reach(self, name: str) -> None:
        """One more point."""
        with self._lock:
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1
            self.names.append(name)


def watch(points: Points) -> None:
    """Beside what the hook sees: between the halves of a block of tensors, and before each wait for the disk."""
    from sft.training.checkpoints import tensor_file

    write, fsync = tensor_file._write, os.fsync
    halved: set[str] = set()

    def in_halves(file: Any, block: memoryview) -> int:
        half = len(block) // 2
        done = write(file, block[:half])
        if file.name not in halved:  # one block of a file will do
            halved.add(file.name)
            points.reach(f"half of {os.path.relpath(file.name, points.folder)}")
        return done + write(file, block[half:])

    def before_sync(handle: int) -> None:
        points.reach("fsync")
        fsync(handle)

    tensor_file._write = in_halves
    os.fsync = before_sync
    sys.addaudithook(points.audit)


def run(order: dict[str, Any], answer: Any) -> None:
    """In the child."""
    from sft.config import SFTConfig
    from sft.errors import SftError
    from sft.training.run import run_training

    points = Points(Path(order["config"]["output_dir"]), order.get("at"))
    error = None
    try:
        if order.get("script"):
            import scripts

            getattr(scripts, order["script"])(order)
        if order.get("count") or order.get("at") is not None:
            watch(points)
        if order.get("limit"):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
        run_training(SFTConfig(**order["config"]), callbacks=strikes(order))
    except SftError as refused:
        error = str(refused)
    except BaseException:
        error = traceback.format_exc()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    answer.write(json.dumps({"error": error, "points": points.names}))
    answer.flush()


def strikes(order: dict[str, Any]) -> list[Any]:
    """What strikes a rank of several."""
    if "strikes" not in order:
        return []
    from misfortune import Misfortune

    return [Misfortune(*order["strikes"])]


def obey(order: dict[str, Any]) -> dict[str, Any]:
    """Fork a child, let it run or die, and say what came of it."""
    started = time.perf_counter()
    gc.freeze()  # what is there already need be looked through, and copied, by no child
    if "ranks" in order:
        return several(order, started)
    child = Child(order)
    if order.get("after") is not None:
        killer = threading.Timer(order["after"], send, (child.pid, order))
        killer.start()
    child.wait()
    if order.get("after") is not None:
        killer.cancel()
        killer.join()  # a child that is forked while it prints inherits the lock of standard error, and waits for ever
    return child.tell(started)


def several(order: dict[str, Any], started: float) -> dict[str, Any]:
    """A run of several ranks: the first is waited for, then the others, a moment, before they are ended."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [Child(order, rank, port) for rank in range(order["ranks"])]
    children[0].wait()
    first = children[0].tell(started)
    for child in children[1:]:
        child.wait(order.get("patience", 1.0) if first["error"] else PATIENCE)
    told = [first, *(child.tell(started) for child in children[1:])]
    return {**told[0], "ranks": told}


def renew_threads() -> None:
    """Have PyTorch make its pool of threads anew after a fork, before two threads ask for it at the same time."""
    import torch

    torch.set_num_threads(torch.get_num_threads())


class Child:
    """One that is forked to run an order."""

    def __init__(self, order: dict[str, Any], rank: int | None = None, port: int = 0) -> None:
        self.answer = TemporaryFile("w+")  # noqa: SIM115 - closed when it has been read
        self.said = TemporaryFile("w+")  # noqa: SIM115
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        renew_threads()
        os.dup2(self.said.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if rank is not None:
            become(rank, port, order)
        run(order, self.answer)
        os._exit(0)

    def wait(self, seconds: float | None = None) -> None:
        """For its end; with ``seconds``, it is ended after so many."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, 0 if deadline is None else os.WNOHANG)
            if pid:
                self.status = status
            elif time.monotonic() > (deadline or 0):
                os.kill(self.pid, signal.SIGKILL)
                deadline = None
            else:
                time.sleep(0.02)

    def tell(self, started: float) -> dict[str, Any]:
        """What came of it."""
        self.answer.seek(0)
        self.said.seek(0)
        found = {"died": False, "error": None, "points": [], **json.loads(self.answer.read() or "{}")}
        found |= {"died": os.WIFSIGNALED(self.status or 0), "seconds": time.perf_counter() - started}
        found["said"] = self.said.read()
        self.answer.close()
        self.said.close()
        return found


def become(rank: int, port: int, order: dict[str, Any]) -> None:
    """What a launcher tells a process of several, and the host that it is on."""
    hosts = order.get("hosts")
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(order["ranks"]),
        "LOCAL_RANK": "0" if hosts else str(rank),
        "LOCAL_WORLD_SIZE": "1" if hosts else str(order["ranks"]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    if hosts:
        os.environ |= {"MASTER_ADDR": order["address"], "GLOO_SOCKET_IFNAME": order["ports"][rank]}
        namespace = os.open(f"/run/netns/{hosts[rank]}", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(namespace, NETWORK) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def send(child: int, order: dict[str, Any]) -> None:
    """Signal a child, unless it has ended."""
    with suppress(ProcessLookupError):
        for _ in range(order.get("times", 1)):
            os.kill(child, order.get("signal", signal.SIGKILL))
            time.sleep(0.01)
        if order.get("signal") == signal.SIGSTOP:
            time.sleep(order["asleep"])
            os.kill(child, signal.SIGCONT)


def warm_up(order: dict[str, Any]) -> dict[str, Any]:
    """Run in this very process, so that what the first run imports and makes is there for every child."""
    from sft.config import SFTConfig
    from sft.training.run import run_training

    kept = os.dup(1), os.dup(2)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    run_training(SFTConfig(**order["config"]))
    os.dup2(kept[0], 1)
    os.dup2(kept[1], 2)
    return {}


def hold_still() -> None:
    """The code is what it was when this process imported it, even if somebody is editing the files."""
    modules = [module for name, module in sys.modules.items() if name.startswith("sft.")]
    for module in modules:
        if hasattr(module, "hash_code"):
            module.hash_code = partial(str, module.hash_code())


def remember() -> None:
    """What every run finds out anew and finds the same: how much memory it needs, which packages there are."""
    from sft.training.memory import check

    estimate, known = check.estimate, dict[str, Any]()

    def remembered(config: Any, *args: Any, **kwargs: Any) -> Any:
        key = repr(replace(config, output_dir="any", save_in_background=None))
        if key not in known:
            known[key] = estimate(config, *args, **kwargs)
        return known[key]

    check.estimate = remembered
    importlib.metadata.metadata = lru_cache(importlib.metadata.metadata)


def main() -> None:
    """Import, say so, and take orders until there are no more."""
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here), str(here.parent / "distributed")]
    import peft.peft_model  # noqa: F401
    import torch
    import transformers.models.qwen3.modeling_qwen3  # noqa: F401

    import sft.training.run  # noqa: F401

    torch.set_num_threads(1)
    hold_still()
    remember()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(warm_up(order) if order.get("here") else obey(order)), flush=True)


if __name__ == "__main__":
    main()
