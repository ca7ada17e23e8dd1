"""Lets the tests of the pages share their modules, and gives each page a folder of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from page_workplace import Workplace


@pytest.fixture
def workplace(
    tmp_path: Path,
    tiny_model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Workplace:
    return Workplace(tmp_path, tiny_model_folder, monkeypatch, capsys)
