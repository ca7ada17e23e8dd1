"""A server that runs as long as we want it, and no longer than we live."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sft.errors import GenerationError

GUARD = Path(__file__).with_name("guard.py")
GRACE_SECONDS = 15.0
"""Time to end by itself once asked to, before it is killed. SGLang takes up to ten seconds."""

TAIL_BYTES = 8192
TAIL_LINES = 15

OURS = (
    # Of this interpreter, wrong for another one.
    "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__",
    # Of a distributed run: a server that found them would join it.
    "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE",
    "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK",
)  # fmt: skip
OURS_BEGIN = ("TORCHELASTIC_", "ACCELERATE_", "FSDP_", "PYTEST_")


class ServerProcess:
    """A command under a guard, in a process group of its own, its output in a file."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], log_file: Path) -> None:
        """Start it.

        Args:
            command: program and arguments.
            environment: variables on top of this process's, less those that are about this process.
            log_file: where its output goes, appended.

        Raises:
            GenerationError: the program cannot be found or run.
        """
        program = shutil.which(command[0])
        if program is None:
            raise GenerationError(
                f"Cannot start a server: {command[0]!r} is no program that can be run. Give the path of the Python of "
                "the environment that the server is installed in, such as /opt/sglang/bin/python."
            )
        self.log_file = log_file
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(GRACE_SECONDS), program, *command[1:]],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**inherited_environment(os.environ), **environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process group: that of the guard, the server and what it starts."""
        return self._guard.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; else the server's exit code, 128 + N for death by signal N."""
        code = self._guard.poll()
        return code if code is None or code >= 0 else 128 - code

    def wait(self, seconds: float) -> int | None:
        """Its exit code if it ends within so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(seconds)
        return self.exit_code

    def log_tail(self) -> str:
        """The last lines of its output."""
        with self.log_file.open("rb") as log:
            log.seek(max(self.log_file.stat().st_size - TAIL_BYTES, 0))
            lines = log.read().decode("utf-8", "replace").splitlines()
        return "\n".join(f"    {line[:300]}" for line in lines[-TAIL_LINES:])

    def stop(self) -> None:
        """End it and everything it started. Returns when all of it is gone."""
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended, or was told before
            self._guard.stdin.write(b"\n")  # closing alone says nothing while a forked worker holds a copy of the pipe
            self._guard.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(GRACE_SECONDS + 10)
        if self._guard.returncode is None or self._guard.returncode < 0:  # the guard itself hangs or was killed
            _kill_group(self._guard.pid)
            self._guard.wait()


def inherited_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a server may see of our environment."""
    return {name: value for name, value in environment.items() if name not in OURS and not name.startswith(OURS_BEGIN)}


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
