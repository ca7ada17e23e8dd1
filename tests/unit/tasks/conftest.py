"""Where a developer keeps real data must not decide what these tests read."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_places_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SFT_LONGBENCH_DIR", "SFT_QMSUM_DIR", "SFT_TRUTHFULQA_FILE"):
        monkeypatch.delenv(name, raising=False)
