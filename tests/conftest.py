"""Where tests find real data. It lies beside the checkout and is never copied into the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets, tokenizers and one tiny real model; the test skips where it is absent."""
    folder = Path(os.environ.get("SFT_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set SFT_SHARED_DATA to run this test")
    return folder
