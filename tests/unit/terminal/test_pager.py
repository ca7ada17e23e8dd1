"""Long output on a terminal goes through the pager of the user, and nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty", reason="terminals are recorded with pty")

PROGRAM = """
import sys
from sft.terminal.pager import paged
with paged() as page:
    for number in range(int(sys.argv[1])):
        page.write(f"line {number}")
        page.remark(f"remark {number}") if number < 2 else None
print("after")
"""


def shown(num_lines: int, *, on_terminal: bool = True, **environment: str) -> list[str]:
    """Lines that a program writes that pages so many."""
    settings = {name: value for name, value in os.environ.items() if name not in ("PAGER", "LESS", "CI", "NO_COLOR")}
    words = [sys.executable, "-c", PROGRAM, str(num_lines)]
    settings |= {"TERM": "xterm", **environment}
    if not on_terminal:
        done = subprocess.run(words, capture_output=True, text=True, env=settings, check=True)
        return [*done.stdout.splitlines(), *done.stderr.splitlines()]
    reader, writer = pty.openpty()  # without a size, which counts as 24 lines
    started = subprocess.Popen(words, stdout=writer, stderr=writer, env=settings)
    os.close(writer)
    written = b""
    try:
        while piece := os.read(reader, 65536):
            written += piece
    except OSError:  # how Linux says that nobody writes any more
        pass
    os.close(reader)
    assert started.wait() == 0
    return written.decode().replace("\r\n", "\n").splitlines()


def lines(num_lines: int, prefix: str = "") -> list[str]:
    return [f"{prefix}line {number}" for number in range(num_lines)]


REMARKS = ["remark 0", "remark 1"]


@pytest.mark.parametrize(
    ("num_lines", "pager", "expected"),
    [
        (5, "sed s/^/paged:/", [*lines(5), *REMARKS, "after"]),
        (100, "sed s/^/paged:/", [*lines(100, "paged:"), *REMARKS, "after"]),
        (20_000, "head -n 3", [*lines(3), *REMARKS, "after"]),  # the reader left
        (100, "cat", [*lines(100), *REMARKS, "after"]),
        (100, "", [*lines(100), *REMARKS, "after"]),
    ],
    ids=["short", "long", "left", "cat", "none"],
)
def test_on_a_terminal(num_lines: int, pager: str, expected: list[str]) -> None:
    assert shown(num_lines, PAGER=pager) == expected


def test_a_pager_that_is_not_there() -> None:
    found = shown(100, PAGER="no-such-pager --at all")
    assert found[:100] == lines(100)
    assert "the pager no-such-pager could not be started" in " ".join(found[100:])


def test_a_pipe_is_never_paged() -> None:
    assert shown(100, on_terminal=False, PAGER="sed s/^/paged:/") == [*lines(100), "after", *REMARKS]


def test_less_is_told_to_show_colours() -> None:
    assert f"LESS=R{os.linesep}".strip() in shown(100, PAGER="env")
