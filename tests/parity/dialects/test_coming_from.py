"""docs/coming-from.md and the pages beside it say what the dialects do."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).with_name("coming_from.py")
DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_pages_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("coming_from", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages = module.pages()
    assert len(pages) == 5
    written = {name: (DOCS / name).read_text(encoding="utf-8") for name in pages}
    assert written == pages, f"run: python tests/parity/dialects/{SCRIPT.name}"
