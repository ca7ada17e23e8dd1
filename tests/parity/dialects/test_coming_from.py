"""docs/coming-from.md says what the dialects do."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).with_name("coming_from.py")
PAGE = Path(__file__).resolve().parents[3] / "docs" / "coming-from.md"


def test_the_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("coming_from", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert PAGE.read_text(encoding="utf-8") == module.page(), f"run: python {SCRIPT.name} > docs/coming-from.md"
