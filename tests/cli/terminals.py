"""A process that has imported everything and forks a child for each command, on a terminal of its own or into a pipe.

    python terminals.py     reads one JSON object a line, does what it says, and answers with one line

An order: ``words`` of the command line, the ``folder`` it is run in, ``columns`` of its terminal (null: its output is a
pipe), ``environment``, ``interrupt_at`` (text after which Ctrl-C is typed). The answer: ``code`` and ``recorded``, what
was written, in order; ``results``, what a pipe on standard output got.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import pty
import struct
import sys
import termios
from typing import Any

NAMES = ("CI", "NO_COLOR", "TERM", "COLUMNS", "PAGER", "LESS")
LINES = 24


def run(order: dict[str, Any]) -> int:
    """In the child."""
    os.chdir(order["folder"])
    for name in NAMES:
        os.environ.pop(name, None)
    os.environ.update({"TERM": "xterm-256color", **order["environment"]})
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode, buffering=1, encoding="utf-8", closefd=False)
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    from sft.cli.main import main

    code = main(order["words"])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def obey(order: dict[str, Any]) -> dict[str, Any]:
    """Fork a child, and record what it writes."""
    gc.freeze()
    results, writes_results = os.pipe()
    if order["columns"]:
        child, reader = pty.fork()  # Ctrl-C that is typed there reaches the child
    else:
        reader, writer = os.pipe()
        child = os.fork()
    if child == 0:
        if order["columns"]:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, order["columns"], 0, 0))
        else:
            os.dup2(writer, 2)
            os.dup2(writes_results, 1)
            os.close(writer)
        os.close(writes_results)
        os._exit(run(order))
    os.close(writes_results)
    if not order["columns"]:
        os.close(writer)
    recorded, interrupt = b"", order["interrupt_at"]
    while piece := read(reader):
        recorded += piece
        if interrupt and interrupt.encode() in recorded:
            os.write(reader, b"\x03")
            interrupt = None
    found = b""
    while piece := read(results):
        found += piece
    os.close(reader)
    os.close(results)
    _, status = os.waitpid(child, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "recorded": recorded.decode("utf-8"),
        "results": found.decode("utf-8"),
    }


def read(handle: int) -> bytes:
    """What is there; empty when the other end is closed, which Linux reports as an error where it is a terminal."""
    try:
        return os.read(handle, 65536)
    except OSError:
        return b""


if __name__ == "__main__":
    import torch  # noqa: F401

    import sft.cli.summary
    import sft.training.run  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line))), flush=True)
