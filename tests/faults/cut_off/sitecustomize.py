"""A machine without a network, for every Python process that has this folder on its path.

Each socket that is asked for is refused and noted in ``SFT_SOCKET_LOG``, as is each name that is looked up. Code that
is not Python's asks nobody: so the open files of the process are looked at again and again, and a socket is noted.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from pathlib import Path

REFUSED = ("socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname")
LOOK_EVERY = 0.02
"""Seconds."""

_log = os.environ.get("SFT_SOCKET_LOG")


def _note(what: str) -> None:
    if _log is not None:
        handle = os.open(_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{what}\n".encode())
        os.close(handle)


def _refuse(event: str, values: tuple[object, ...]) -> None:
    if event in REFUSED:
        who = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_stack()[-6:-1]]
        _note(f"{event} {values[1:]} by {' < '.join(reversed(who))}")
        raise PermissionError(f"this test has no network: {event}")


def _sockets() -> set[str]:
    """Sockets among the files that this process has open."""
    found = set()
    for handle in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            target = os.readlink(f"/proc/self/fd/{handle}")
        except OSError:  # closed since
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def _look(given: set[str]) -> None:
    ended = threading.Event()
    while not ended.wait(LOOK_EVERY):
        for opened in _sockets() - given:
            given.add(opened)
            _note(f"open: {opened}")


if _log is not None:
    sys.addaudithook(_refuse)
    threading.Thread(target=_look, args=(_sockets(),), daemon=True).start()
