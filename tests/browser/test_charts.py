"""Charts zoom by mouse and by keyboard, and all of them together."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from .viewer import Opened

Show = Callable[..., Opened]


def axis(page: Any, chart: str) -> bytes:
    """The picture of a chart: what its user sees of a zoom."""
    return bytes(page.locator(f'[data-chart="{chart}"] canvas').screenshot())


def drag(page: Any, chart: str) -> None:
    """Across the middle third of a chart."""
    area = page.locator(f'[data-chart="{chart}"] .u-over')
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 2 / 3, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()


@pytest.mark.parametrize("kind", ["quickstart", "two", "large"])
def test_dragging_zooms_all_charts_and_a_double_click_shows_all(show: Show, kind: str) -> None:
    page = show(kind).page
    before = [axis(page, chart) for chart in ("loss", "grad_norm")]
    drag(page, "loss")
    zoomed = [axis(page, chart) for chart in ("loss", "grad_norm")]
    assert zoomed[0] != before[0]
    assert zoomed[1] != before[1]
    page.locator('[data-chart="loss"] .u-over').dblclick()
    page.mouse.move(0, 0)
    assert [axis(page, chart) for chart in ("loss", "grad_norm")] == before


def test_keys_zoom_and_go_back(show: Show) -> None:
    page = show("quickstart").page
    plot = page.locator('[data-chart="loss"] .plot')
    plot.focus()
    before = axis(page, "loss")
    seen = [before]
    for key in ("+", "ArrowRight", "ArrowLeft", "-"):
        page.keyboard.press(key)
        seen.append(axis(page, "loss"))
    assert all(one != next for one, next in pairwise(seen))
    page.keyboard.press("+")
    page.keyboard.press("0")
    assert axis(page, "loss") == before


def test_each_chart_is_said_in_words(show: Show) -> None:
    """Whoever cannot see a chart is told its first, lowest and last value."""
    page = show("quickstart").page
    said = [plot.get_attribute("aria-label") for plot in page.locator("[data-chart] .plot").all()]
    assert len(said) >= 4
    assert all("lowest" in one and "at step" in one for one in said)
