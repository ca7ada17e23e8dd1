"""The answers of the untrained, the best and the last model side by side: filters, search, order, keyboard."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .run_folders import QUICKSTART, copy_run
from .viewer import Opened

Show = Callable[..., Opened]


def listed(page: Any) -> list[str]:
    """What is listed, one text a question."""
    return [str(one.inner_text()) for one in page.locator("#answers > li").all()]


def scores(run: Path, task: str, step: int) -> dict[str, float]:
    """ROUGE-L by row, from the run's own files."""
    [path] = (run / f"eval_step_{step}").glob(f"*_{task}_temp0.0_results.json")
    return {str(name): float(score) for name, score in json.loads(path.read_text())["per_sample_rougeL"]}


def choose(page: Any, task: str, kind: str = "all") -> None:
    """Show the answers of a task that are better, worse, changed, the same or all."""
    names = page.locator("#answers-task option").all_inner_texts()
    [label] = [name for name in names if name.startswith(f"{task} ")]
    page.locator("#answers-task").select_option(label=label)
    page.locator(f"#answers-filter button[data-filter={kind}]").click()


@pytest.mark.parametrize("run", ["evaluated", "declined", "worse"])
def test_filters_keep_what_the_runs_own_scores_say(show: Show, runs: dict[str, Path], run: str) -> None:
    best = json.loads((runs[run] / "eval_history.json").read_text())["best_trained_step"]
    first, then = scores(runs[run], "qmsum", 0), scores(runs[run], "qmsum", best)
    expected = {
        "all": set(first),
        "better": {row for row in first if then[row] > first[row]},
        "worse": {row for row in first if then[row] < first[row]},
    }
    page = show(run).page
    for kind, rows in expected.items():
        choose(page, "qmsum", kind)
        assert {row for row in first for text in listed(page) if row in text} == rows
        assert len(listed(page)) == len(rows)


@pytest.mark.parametrize("width", [375, 1440])
def test_own_questions_stand_side_by_side(show: Show, runs: dict[str, Path], tmp_path: Path, width: int) -> None:
    """A run without tasks: untrained beside last, differences marked, nothing offered that goes by scores."""
    from sft.report.page import write_page

    said = {0: ["a lamp is lit", "\n \n"], 40: ["a pmal is lit", "FAULT"]}  # the tiny model says nothing worth marking
    run = copy_run(runs["quickstart"], tmp_path / "run")
    asked = (QUICKSTART / "questions.txt").read_text(encoding="utf-8").splitlines()
    for step, outputs in said.items():
        path = run / "gen_results" / f"gen_step_{step}.json"
        answered = json.loads(path.read_text(encoding="utf-8"))
        assert [one["question"] for one in answered] == asked
        path.write_text(json.dumps([{**one, "output": text} for one, text in zip(answered, outputs, strict=False)]))
    page = show(write_page([run], tmp_path / "report.html"), width=width).page
    first, second = page.locator("#answers > li").all()
    assert asked[0] in first.inner_text()
    assert first.locator("h3").all_text_contents() == ["untrained, step 0", "last, step 40"]
    assert first.locator("ins, del").all_inner_texts() == ["lamp", "pmal"]
    assert second.locator(".side p").all_inner_texts() == ["nothing but white space", "FAULT"]
    assert page.locator("#answers-filter button").all_inner_texts() == ["all", "changed", "unchanged"]
    assert not page.locator("#answers-order").is_visible()
    assert "Nothing scores these answers" in page.locator("#answers-count").inner_text()


def test_search_finds_a_word_of_an_answer(show: Show) -> None:
    page = show("evaluated").page
    choose(page, "truthfulqa")
    page.locator("#answers-search").fill("fortune")
    assert len(listed(page)) == 1
    page.locator("#answers-search").fill("no such word")
    assert listed(page) == []
    assert "0" in page.locator("#answers-count").inner_text()


def test_the_two_answers_differ_visibly(show: Show) -> None:
    """Words that only one of the answers has are marked as such, and not by colour alone."""
    page = show("evaluated").page
    choose(page, "qmsum")
    assert page.locator("#answers ins, #answers del, #answers mark").count() > 0


@pytest.mark.parametrize("width", [375, 1440])
@pytest.mark.parametrize("kind", ["evaluated", "hostile"])
def test_a_button_for_all_of_a_text_stands_where_some_is_hidden(show: Show, kind: str, width: int) -> None:
    """It is the browser that knows: pressing it shows more, and cards without it hide nothing."""
    page = show(kind, width=width).page
    hidden = "one => [...one.querySelectorAll('p')].some(text => text.scrollHeight > text.clientHeight + 1)"
    cards = page.locator("#answers > li").all()
    assert [card.evaluate(hidden) for card in cards] == [card.locator(".whole").is_visible() for card in cards]
    for card in cards:
        if card.locator(".whole").is_visible():
            card.locator(".whole").click()
            assert not card.evaluate(hidden)
    assert (kind == "hostile") == (page.locator("#answers .whole[aria-expanded=true]").count() > 0)


def test_everything_is_reached_by_keyboard(show: Show) -> None:
    """Tab goes through the page from top to bottom and visits each control."""
    page = show("evaluated").page
    visited: list[str] = []
    for _ in range(400):
        page.keyboard.press("Tab")
        here = page.evaluate("document.activeElement.id || document.activeElement.className || ''")
        if visited and here == "" and page.evaluate("document.activeElement === document.body"):
            break
        visited.append(str(here))
    assert visited[0] == "skip"
    for control in ("answers-task", "answers-search", "answers-order", "theme"):
        assert control in visited
    assert sum("plot" in one for one in visited) >= 4
