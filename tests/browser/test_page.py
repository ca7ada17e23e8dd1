"""The page of a run, as people meet it: from a file, without a network, on a phone and a desk, in light and dark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .viewer import WIDTHS, Opened

Show = Callable[..., Opened]
SECTIONS = ["better", "data", "course", "says", "repeat"]
KINDS = ["quickstart", "evaluated", "declined", "worse", "longbench", "stopped", "incidents", "hostile", "two", "large"]
SCHEMES = ["light", "dark"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_whole(show: Show, kind: str, width: int, scheme: str) -> None:
    """Every section says something, nothing is wider than the window, and ``show`` saw no error and no request."""
    opened = show(kind, width=width, scheme=scheme)
    assert [section.get_attribute("id") for section in opened.page.locator("main > section").all()] == SECTIONS
    for name in SECTIONS:
        body = opened.page.locator(f"#{name}").inner_text()
        heading = opened.page.locator(f"#{name} h2").inner_text()
        assert body.removeprefix(heading).strip(), f"section {name} is empty"
    assert opened.overflow == 0


@pytest.mark.parametrize("kind", ["quickstart", "evaluated", "longbench", "two"])
def test_nothing_scrolls_sideways_on_a_phone(show: Show, kind: str) -> None:
    """But for the table of every evaluation, which has a column a task."""
    page = show(kind, width=375).page
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    wide = "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.getAttribute('aria-label'))"
    assert set(page.locator(".scroll").evaluate_all(wide)) <= {"Every evaluation"}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("kind", ["quickstart", "evaluated", "stopped", "incidents", "hostile", "two"])
def test_axe_finds_nothing(show: Show, axe: str, kind: str, width: int, scheme: str) -> None:
    """All of axe-core's rules, best practices included, with everything that folds unfolded."""
    page = show(kind, width=width, scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    page.evaluate(axe)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    broken = {rule["id"]: [node["html"][:200] for node in rule["nodes"][:3]] for rule in found["violations"]}
    assert broken == {}


def test_colours_follow_the_system(show: Show) -> None:
    light, dark = (luminance(show("quickstart", scheme=scheme).page) for scheme in SCHEMES)
    assert light > 200 > 60 > dark


def luminance(page: Any) -> float:
    """Of the page's background, 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 3


def test_a_large_run_stays_small(show: Show, pages: dict[str, Path]) -> None:
    """100,000 logged steps and 5,000 prompts: under 5 MB, and the page says what it leaves out."""
    assert pages["large"].stat().st_size < 5_000_000
    page = show("large").page
    timing = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    print(f"{pages['large'].stat().st_size / 1e6:.2f} MB, loaded after {timing:.0f} ms")
    assert "of 100,000 logged points" in page.locator("#course").inner_text()
    assert "texts of more than" in page.locator("#says").inner_text()
    assert page.locator("#course canvas").count() >= 4


# ---- text that wants to be more -------------------------------------------------------------------------------------


def test_hostile_text_stays_text(show: Show) -> None:
    page = show("hostile").page
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    while page.locator("#answers-more").is_visible():
        page.locator("#answers-more").click()
    page.mouse.move(300, 300)
    assert page.evaluate("window.__called") is None
    assert page.locator("main img, main svg[onload], main [onmouseover], main [onerror]").count() == 0
    shown = page.locator("main").inner_text()
    assert "<script>window.__called" in shown
    assert "⟨U+202E⟩right to left" in shown
    assert "⟨U+001B⟩[31mred" in shown
    assert not set(shown) & {"\x1b", "\x00", "\u202e", "\u2066", "\u2028"}
    assert page.locator("#repeat").is_visible()


# ---- what a reader does with it -------------------------------------------------------------------------------------


def test_the_theme_button_overrides_the_system_and_lasts(show: Show) -> None:
    page = show("quickstart", scheme="light").page
    for _ in range(3):
        if page.evaluate("document.documentElement.dataset.theme") != "dark":
            page.locator("#theme").click()
    assert luminance(page) < 60
    page.reload()
    assert luminance(page) < 60


@pytest.mark.parametrize("kind", ["evaluated", "two"])
def test_without_scripts_everything_but_charts_and_answers_is_there(show: Show, kind: str) -> None:
    page = show(kind, scripts=False).page
    for name in SECTIONS:
        assert len(page.locator(f"#{name}").inner_text()) > 40
    assert "lowest" in page.locator("#course").inner_text(), "charts are said in words"


def test_parts_of_the_page_are_one_click_away(show: Show) -> None:
    page = show("evaluated", width=375).page
    for link in page.locator("nav a").all():
        link.click()
        target = str(link.get_attribute("href"))
        top = page.wait_for_function(
            "id => { const top = document.querySelector(id).getBoundingClientRect().top; return top < 150 && [top] }",
            arg=target,
        ).json_value()[0]
        assert top > -150


def test_values_of_a_chart_are_a_table_too(show: Show, runs: dict[str, Path]) -> None:
    """For whoever reads numbers, or hears the page: the logged losses, every one of a short run."""
    page = show("quickstart").page
    figure = page.locator('[data-chart="loss"]')
    figure.locator("details summary").click()
    figure.locator("tbody tr").first.wait_for()  # it is made when the part has opened
    logged = [json.loads(line) for line in (runs["quickstart"] / "metrics.jsonl").read_text().splitlines()]
    losses = {str(line["step"]): line["loss"] for line in logged if "loss" in line}
    rows = [row.locator("th, td").all_inner_texts()[:2] for row in figure.locator("tbody tr").all()]
    assert [step for step, _ in rows] == list(losses)
    assert [float(loss) for _, loss in rows] == pytest.approx(list(losses.values()), rel=1e-4)
