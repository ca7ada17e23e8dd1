"""The page of a run that goes on renews itself, and whoever reads it keeps their place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .viewer import Opened

Show = Callable[..., Opened]


@pytest.fixture
def going_on(runs: dict[str, Path], tmp_path: Path) -> Path:
    """A run folder without a result, and without word of an end."""
    folder = Path(shutil.copytree(runs["stopped"], tmp_path / "going-on"))
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    del record["ended"]
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def test_a_page_renews_itself_and_keeps_the_readers_place(show: Show, going_on: Path) -> None:
    from sft.report.page import write_page

    path = write_page([going_on], going_on / "report.html")
    opened = show(path, clock=True)
    page = opened.page
    assert "step 6 of 12" in page.locator("header").inner_text()
    page.locator("#answers-filter button[data-filter=changed]").click()
    page.locator("#answers-search").fill("fortune")
    page.locator("#answers-search").evaluate("one => one.blur()")
    page.evaluate("scrollTo({top: 900, behavior: 'instant'})")

    metrics = going_on / "metrics.jsonl"
    text = metrics.read_text(encoding="utf-8").rpartition("\n")[0]
    metrics.write_text(text + '\n{"step": 7, "epoch": 0.875, "time": 1.0, "loss": 5.5}\n', encoding="utf-8")
    write_page([going_on], path)
    with page.expect_navigation(wait_until="load"):
        page.clock.fast_forward(60_000)
    assert "step 7 of 12" in page.locator("header").inner_text()
    assert page.locator("#answers-search").input_value() == "fortune"
    assert page.locator("#answers-filter button[data-filter=changed]").get_attribute("aria-pressed") == "true"
    assert abs(page.evaluate("scrollY") - 900) < 5


def test_it_waits_while_someone_types(show: Show, going_on: Path) -> None:
    from sft.report.page import write_page

    page = show(write_page([going_on], going_on / "report.html"), clock=True).page
    page.evaluate("window.stillHere = true")
    page.locator("#answers-search").fill("for")
    page.clock.fast_forward(120_000)
    assert page.evaluate("window.stillHere")


def test_a_finished_page_stays(show: Show, runs: dict[str, Path], tmp_path: Path) -> None:
    """So do pages that were asked for elsewhere: nobody writes them anew."""
    from sft.report.page import write_page

    elsewhere = write_page([runs["stopped"]], tmp_path / "elsewhere.html")
    for path in (runs["quickstart"] / "report.html", elsewhere):
        page = show(path, clock=True).page
        page.evaluate("window.stillHere = true")
        page.clock.fast_forward(3_600_000)
        assert page.evaluate("window.stillHere")
