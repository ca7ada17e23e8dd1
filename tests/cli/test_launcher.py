"""Processes that are started together and fail: one message, their own exit code, nothing of the launcher's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

OUT_OF_MEMORY = " The system ends a process so when memory runs out."


def launch(folder: Path, body: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Two processes that run a script."""
    (folder / "script.py").write_text(f"import os, signal, sys\nrank = os.environ['RANK']\n{body}\n", encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "sft.cli.launcher", "--standalone", "--nproc_per_node=2", "script.py", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("print(sys.argv[1])", 0, []),
        (
            "if rank == '0':\n    print('sft: error: a typo', file=sys.stderr)\n    sys.exit(2)\nsignal.pause()",
            2,
            ["sft: error: a typo"],
        ),
        (
            "if rank == '1':\n    sys.exit(1)\nsignal.pause()",
            1,
            ["sft: process 1 ended with code 1; what it said stands above."],
        ),
        (
            "if rank == '1':\n    os.kill(os.getpid(), signal.SIGKILL)\nsignal.pause()",
            137,
            [f"sft: process 1 was ended by SIGKILL; the others were stopped.{OUT_OF_MEMORY}"],
        ),
    ],
    ids=["done", "mistake", "fault", "killed"],
)
def test_what_a_failure_says(tmp_path: Path, body: str, code: int, said: list[str]) -> None:
    done = launch(tmp_path, body, "--key")
    assert (done.returncode, done.stderr.splitlines()) == (code, said)
    assert done.stdout.split() == (["--key"] * 2 if code == 0 else [])
