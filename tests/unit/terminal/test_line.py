"""What there is room for, in order of what matters."""

from __future__ import annotations

import io
import sys

import pytest

from sft.terminal.line import clock, compose, draw_bar
from sft.terminal.plain import num_columns

FIGURES = [(0, "loss 1.2345"), (2, "1,610 trained tok/s"), (3, ""), (1, "02:14 left")]


@pytest.fixture(autouse=True)
def _utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))


@pytest.mark.parametrize("width", range(10, 120))
def test_it_is_never_wider(width: int) -> None:
    assert num_columns(compose("step 4/8", 0.5, FIGURES, width)) <= max(width, 8)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (12, "step 4/8"),
        (21, "step 4/8  loss 1.2345"),
        (33, "step 4/8  loss 1.2345  02:14 left"),
        (54, "step 4/8  loss 1.2345  1,610 trained tok/s  02:14 left"),
        (62, "step 4/8  ━━━───  loss 1.2345  1,610 trained tok/s  02:14 left"),
        (200, f"step 4/8  {'━' * 15}{'─' * 15}  loss 1.2345  1,610 trained tok/s  02:14 left"),
    ],
)
def test_what_matters_most_is_kept_longest(width: int, shown: str) -> None:
    assert compose("step 4/8", 0.5, FIGURES, width) == shown


def test_a_terminal_that_writes_ascii_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert draw_bar(0.5, 8) == "####----"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "--:--"), (0, "00:00"), (59.6, "01:00"), (3734, "1:02:14"), (400_000, "111:06:40")]
)
def test_time_left(seconds: float | None, shown: str) -> None:
    assert clock(seconds) == shown
