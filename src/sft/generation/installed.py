"""Whether a server that is to be started is there at all: asked before hours of training without a score."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from sft.errors import ConfigError
from sft.generation.server_process import inherited_environment

MODULES = {"sglang": "SGLang", "vllm": "vLLM"}
"""What such a server is imported as, and its name."""

ABSENT = "not found"
ASK = "import importlib.util, sys; print('{absent}' if importlib.util.find_spec(sys.argv[1]) is None else 'found')"
PATIENCE_SECONDS = 60.0


def require_server(kind: str, python: str | None, *, prefix: str = "") -> None:
    """Refuse a server that no Python could start. One that may be there is left to its start.

    Args:
        kind: ``sglang`` or ``vllm``; others are not started by a Python.
        python: its interpreter; None: this one.
        prefix: what stands before ``engine`` in the names of the options, for the message.

    Raises:
        ConfigError: the interpreter cannot be run, or has no such package.
    """
    if kind not in MODULES:
        return
    program = shutil.which(os.path.expanduser(python or sys.executable))
    if program is None:
        raise ConfigError(
            f"{prefix}engine_python = {python}: is no program that can be run. Give the path of the Python of the "
            f"environment that {MODULES[kind]} is installed in, such as /opt/{kind}/bin/python."
        )
    if _answer(program, kind) == ABSENT:
        raise ConfigError(
            f"{prefix}engine = {kind}: {MODULES[kind]} is not installed for {program}, so that no server can be "
            f"started. Install it in an environment of its own (it brings its own PyTorch) and give that one's Python "
            f"as {prefix}engine_python; or give the address of a server that runs as {prefix}engine_url; or let this "
            f"process answer: {prefix}engine in_process."
        )


def _answer(program: str, module: str) -> str:
    """What an interpreter says of a package; empty where it says nothing, as a wrapper of one may."""
    try:
        asked = subprocess.run(
            [program, "-c", ASK.format(absent=ABSENT), module],
            env=inherited_environment(os.environ),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()
