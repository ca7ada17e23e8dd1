"""A process that dies below torchrun, as a user starts it: torchrun ends the others, which have said who it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import HERE, TORCHRUN, Launch

pytestmark = pytest.mark.slow  # three processes that import everything


def test_a_process_that_dies_is_named(launch: Launch, settings: dict[str, Any], tmp_path: Path) -> None:
    options = tmp_path / "options.json"
    options.write_text(json.dumps({**settings, "output_dir": str(tmp_path / "run")}))
    started = launch(*TORCHRUN, "--nproc_per_node=2", HERE / "misfortune.py", options, 1, 3, "die", timeout=100)
    assert started.returncode != 0
    assert "lost rank 1 (" in started.stdout, started.stdout[-3000:]
    assert "which does not answer: it died, hangs or is cut off. Waited at most ddp_timeout = 120 s" in started.stdout
    assert started.stdout.count("sft: error: ") == 1
