"""A process between us and a server: whatever ends us, it ends the server and everything that the server started.

Run as a script by ``server_process``, as the leader of a process group of its own, with nothing but the standard
library: ``python guard.py GRACE_SECONDS COMMAND ...``. Its standard input is a pipe from us: a byte on it, or its end
when we die of whatever signal, is the order to end. The exit code is the server's, 128 + N for death by signal N.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main(grace: float, command: list[str]) -> int:
    """Run a command until it ends, or until our parent wants or causes its end."""
    on_linux = sys.platform == "linux"
    if on_linux:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the server become children of ours, to be found below
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # they are for the group; a handler, unlike SIG_IGN, is not inherited
    parent = os.getppid()
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, preexec_fn=(lambda: _prctl(PR_SET_PDEATHSIG, 9)) if on_linux else None
    )
    ended = threading.Event()
    threading.Thread(target=_end_with_parent, args=(parent, server.pid, ended, grace), daemon=True).start()
    code = server.wait()
    ended.set()
    _end_the_rest()
    return code if code >= 0 else 128 - code


def _end_with_parent(parent: int, server: int, ended: threading.Event, grace: float) -> None:
    """Wait for a word, for the end of the pipe, or of our parent where a fork of it holds the pipe; end the group."""
    while not select.select([0], [], [], 1.0)[0] and os.getppid() == parent:
        pass
    for number in (signal.SIGTERM, signal.SIGCONT):  # a stopped server must go on to hear of it
        os.killpg(os.getpgrp(), number)
    if not ended.wait(grace):
        _kill([*descendants(os.getpid()), server])


def descendants(root: int) -> list[int]:
    """Processes started by ``root`` and theirs, by the process table of Linux; empty elsewhere."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found = list(children.get(root, []))
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def _end_the_rest() -> None:
    """Kill what the server left behind, and return when it is gone."""
    while rest := descendants(os.getpid()):
        _kill(rest)
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            continue


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
