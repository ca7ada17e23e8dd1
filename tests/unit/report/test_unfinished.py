"""A run that is going on, or ended before its time: what is not there yet is called so, and its end is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sft.report.names import PAGE
from sft.report.page import write_page

from .reading_pages import Element, Page, read_page

MakeRun = Callable[..., Path]
WHY = "RuntimeError: <b>no</b> more"


def page_of(folder: Path) -> Page:
    return read_page(write_page([folder], folder / PAGE).read_text(encoding="utf-8"))


def tiles(page: Page) -> dict[str, str]:
    (found,) = page.root.part("course").classed("tiles")
    pairs = [child for child in found.children if isinstance(child, Element)]
    return {pair.all("dt")[0].words: pair.all("dd")[0].words for pair in pairs}


def test_tiles_of_a_run_that_is_going_on_say_not_yet(make_run: MakeRun) -> None:
    folder = make_run(result=None, memory={"run_measured_bytes": None})
    shown = tiles(page_of(folder))
    assert [what for what, value in shown.items() if value == "not yet"] == [
        *("Mean training loss", "Training time"),
        *(what for what in shown if what.startswith("Memory")),
    ]
    assert shown["Steps"] == "40"
    (folder / "metrics.jsonl").write_text("")
    page = page_of(folder)
    assert (tiles(page)["Steps"], tiles(page)["Epochs"]) == ("not yet", "not yet")
    assert "not recorded" not in page.root.part("course").words
    assert "begun not recorded" not in page.root.words


@pytest.mark.parametrize(("how", "state"), [("failed", "Failed"), ("stopped", "Stopped")])
def test_a_run_that_ended_early_tells_when_and_why(how: str, state: str, make_run: MakeRun) -> None:
    folder = make_run(result=None, ended={"how": how, "step": 31, "time": 1795373283.0, "why": WHY})
    page = page_of(folder)
    assert [one.words for one in page.root.classed("state")] == [state]
    (told,) = page.root.classed("ended")
    assert told.words.endswith(f"after step 31, 2026-11-22 18:48 UTC: {WHY}")
    assert page.data["renews"] is None, "nothing more comes"
    assert "not yet" not in tiles(page).values()


def test_a_finished_run_tells_no_end(make_run: MakeRun) -> None:
    """Its upload may have failed after all was saved."""
    page = page_of(make_run(ended={"how": "failed", "step": 40, "time": 1795373283.0, "why": WHY}))
    assert [one.words for one in page.root.classed("state")] == ["Finished"]


def test_an_end_of_another_kind_costs_itself_alone(make_run: MakeRun) -> None:
    page = page_of(make_run(result=None, ended={"how": 7, "step": "x", "time": [], "why": None}))
    assert [one.words for one in page.root.classed("state")] == ["Not finished"]
    assert "run.json: ended.how is of another kind than runs write, and left out" in page.root.words
