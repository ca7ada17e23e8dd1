"""Curves with fewer points: nothing is made up, no peak is lost, and the page stays small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.report.page import write_page
from sft.report.story import Series
from sft.report.thinning import FEWEST_TO_SMOOTH, smooth, thin

from .conftest import predictions, write_lines
from .reading_pages import read_page

FIGURES = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=400)


@given(FIGURES, st.integers(1, 20))
def test_every_point_that_is_drawn_was_logged_and_extremes_stay(values: list[float | None], stretches: int) -> None:
    series = Series([float(step) for step in range(len(values))], values)
    drawn = thin(series, few=10, stretches=stretches)
    points = list(zip(drawn.series.steps, drawn.series.values, strict=True))
    assert set(points) <= set(zip(series.steps, series.values, strict=True))
    assert drawn.series.steps == sorted(set(drawn.series.steps))
    assert (drawn.of, drawn.is_thinned) == (len(values), len(points) < len(values))
    if len(values) <= 10:
        assert drawn.series == series
        return
    assert len(points) <= 5 * stretches
    for number in range(stretches):
        begin, end = len(values) * number // stretches, len(values) * (number + 1) // stretches
        logged = [value for value in values[begin:end] if value is not None]
        kept = [value for step, value in points if begin <= step < end and value is not None]
        if logged:
            assert (min(kept), max(kept)) == (min(logged), max(logged))


def test_a_smoothed_curve_is_an_exponential_mean() -> None:
    values = [float((at * 7919) % 101) for at in range(500)]
    found = smooth(Series([float(at) for at in range(500)], list(values)))
    assert found is not None
    series, span = found
    assert span == 10
    alpha = 2 / (span + 1)
    for at in (0, 1, 7, 499):
        weights = [(1 - alpha) ** (at - before) for before in range(at + 1)]
        mean = sum(weight * value for weight, value in zip(weights, values, strict=False)) / sum(weights)
        assert series.values[at] == pytest.approx(mean, rel=1e-5)
    assert smooth(Series([1.0] * (FEWEST_TO_SMOOTH - 1), [1.0] * (FEWEST_TO_SMOOTH - 1))) is None


def test_a_long_run_with_many_answers_stays_small(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """30,000 steps with a spike and 5,000 questions: the spike is drawn, and what is left out is said."""
    folder = make_run()
    lines = [
        {"step": step, "loss": 2.0 + (step * 7919) % 1013 / 1e4, "grad_norm": 1.1, "learning_rate": 1e-3 / step}
        for step in range(1, 30_001)
    ]
    lines[17_532]["loss"] = 9.75
    write_lines(folder / "metrics.jsonl", lines)
    for step in (0, 20, 40):
        answers = {f"q{row}": (f"step {step}: " + f"word{row} " * 60, row / 5000) for row in range(5000)}
        predictions(folder, step, answers)
    page = read_page(write_page([folder], tmp_path / "page.html").read_text(encoding="utf-8"))
    assert (tmp_path / "page.html").stat().st_size < 5_000_000
    curve = page.chart("loss")["curves"][0]
    assert (17_533, 9.75) in list(zip(curve["x"], curve["y"], strict=True))
    assert curve["of"] == 30_000
    assert page.chart("loss")["thinned"] == f"{len(curve['x']):,} of 30,000 logged points"
    assert page.chart("loss")["thinned"] in page.root.part("course").text
    (task,) = page.data["answers"][0]
    said = page.root.part("says").words
    assert task["asked"] == 5000
    assert len(task["rows"]) == 5000 or f"{len(task['rows']):,} of 5,000 questions are on the page" in said
    assert "lack their middle" in said


def test_rows_that_do_not_fit_are_the_ones_that_changed_least(make_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_run()
    for step in (0, 20, 40):
        long = {f"q{row}": (f"{step} " + f"{row} " * 100, row / 5000 if step else 0.0) for row in range(5000)}
        predictions(folder, step, long)
    page = read_page(write_page([folder], tmp_path / "page.html").read_text(encoding="utf-8"))
    (task,) = page.data["answers"][0]
    names = [int(row[0][1:]) for row in task["rows"]]
    assert 1000 < len(names) < 5000
    assert names == list(range(5000 - len(names), 5000)), "those with the largest change, in the order of the data"
    assert task["counts"] == {"better": 4999, "worse": 0, "same": 1}, "all rows are counted, shown or not"
    assert (tmp_path / "page.html").stat().st_size < 5_000_000


def test_figures_that_are_no_numbers_leave_gaps(make_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_run()
    text = '{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1.5}\n{"step": 3, "loss": Infinity}\n'
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    page = read_page(write_page([folder], tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.chart("loss")["curves"][0]["y"] == [None, 1.5, None]
    json.dumps(page.data, allow_nan=False)
