"""The view of a training in a notebook: drawn as XML that stands, true to what was logged, and unable to stop a run."""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from sft.notebook import live
from sft.notebook.chart import HEIGHT, MOST_POINTS, WIDTH, Curve, draw_chart, thinned, ticks
from sft.notebook.live import LiveView, in_notebook, view
from sft.notebook.page import framed

HISTORY = [
    {"step": 0, "eval_loss": 5.8},
    {"step": 1, "loss": 5.7, "grad_norm": 3.0, "trained_tokens": 1234, "trained_tokens_per_second": 50.5},
    {"step": 2, "loss": float("nan"), "grad_norm": 2.0},
    {"step": 3, "loss": 4.0, "learning_rate": 2e-5},
    {"step": 3, "eval_loss": 4.4},
]


def places(svg: ElementTree.Element, name: str) -> list[tuple[float, float]]:
    """Of the points of the line with that title in the legend, which come in the order of the lines."""
    lines, titles = svg.findall("polyline"), [one.text for one in svg.findall("text")][-2:]
    text = lines[titles.index(name)].get("points", "")
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


def test_the_view_says_where_the_run_is_and_draws_what_was_logged() -> None:
    drawn = ElementTree.fromstring(view(HISTORY, step=3, steps=12, seconds_left=8.2).replace("'", '"'))
    assert drawn.findtext("p") == "step 3 of 12, loss 4.0000, evaluation loss 4.4000 (5.8000 untrained), about 9 s left"
    svg = drawn.find("svg")
    assert svg is not None
    losses, evaluated = places(svg, "loss"), places(svg, "evaluation loss")
    assert [len(losses), len(evaluated)] == [2, 2]  # a loss that is no number is a gap
    assert losses[0][1] < losses[1][1]  # down is less
    assert evaluated[1][0] == losses[1][0]  # of the same step
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in losses + evaluated)
    assert svg.get("aria-label") == "loss 5.7 to 4; evaluation loss 5.8 to 4.4"
    heads = [cell.text for cell in drawn.iter("th")]
    rows = [[cell.text for cell in row.findall("td")] for row in drawn.findall("table/tbody/tr")]
    assert [row[0] for row in rows] == ["3", "2", "1", "0"]
    assert dict(zip(heads, rows[2], strict=True))["trained tokens since the row before"] == "1,234"


def test_before_anything_is_logged_there_are_axes() -> None:
    assert "step 0 of 5" in view([], step=0, steps=5, seconds_left=None)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.31, 2.33), (5.0, 5.0), (0.0, 0.0), (-3.0, 1e6), (1e-9, 3e-9)])
def test_ticks_are_few_even_and_around_the_values(low: float, high: float) -> None:
    found = ticks(low, high)
    steps = [after - before for before, after in itertools.pairwise(found)]
    assert 2 <= len(found) <= 7
    assert all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps)
    assert found[0] <= low + 1e-12
    assert found[-1] >= high - 1e-12


def test_a_long_line_keeps_its_peak_and_its_dip() -> None:
    points = [(float(step), math.sin(step / 50)) for step in range(20_000)]
    points[7_777], points[12_345] = (7_777.0, 90.0), (12_345.0, -90.0)
    kept = thinned(points)
    assert len(kept) <= MOST_POINTS
    assert {points[7_777], points[12_345]} <= set(kept)
    assert list(kept) == sorted(kept)
    assert len(draw_chart([Curve(name="loss", colour="red", points=tuple(points))], last_step=20_000)) < 12_000


class Browser:
    """Takes HTML, or does not."""

    def __init__(self, *, fails: bool = False) -> None:
        self.seen: list[str] = []
        self.fails = fails

    def show(self, html: str) -> Callable[[str], None]:
        if self.fails:
            raise RuntimeError("no browser")
        self.seen.append(html)
        return self.seen.append


def train(watcher: LiveView, tmp_path: Path, steps: int) -> None:
    state, control = TrainerState(max_steps=steps), TrainerControl()
    state.is_world_process_zero = True
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    watcher.on_train_begin(args, state, control)
    for step in range(1, steps + 1):
        state.global_step = step
        state.log_history.append({"step": step, "loss": 1.0 / step})
        watcher.on_log(args, state, control)
    watcher.on_train_end(args, state, control)


def test_it_is_drawn_seldom_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(number / 10 for number in range(1_000))
    monkeypatch.setattr(live.time, "monotonic", lambda: next(now))
    browser = Browser()
    train(LiveView(browser.show), tmp_path, 100)
    assert 5 <= len(browser.seen) <= 40
    assert "step 100 of 100, loss 0.0100" in browser.seen[-1]


def test_a_browser_that_fails_is_said_once(tmp_path: Path) -> None:
    said: list[Any] = []
    train(LiveView(Browser(fails=True).show, said.append), tmp_path, 5)
    assert said == ["the chart is left out from here on: RuntimeError: no browser. Training goes on."]


def test_a_terminal_is_no_notebook() -> None:
    assert not in_notebook()


def test_a_page_in_a_frame_stays_in_it(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text('<p title="it\'s">\'"</p></iframe><script>x</script>', encoding="utf-8")
    frame = ElementTree.fromstring(framed(page))[0]
    assert frame.get("srcdoc") == page.read_text(encoding="utf-8")
    assert frame.get("sandbox") == "allow-scripts"
    assert list(frame) == []
