"""One headless Chromium, the run folders, and the pages that `sft report` makes of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import run_folders
from .viewer import Opened, open_file

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window and without a network; the tests skip where it, or Playwright, is absent."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make test-browser")
    program = os.environ.get("SFT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium found: install it with the system's packages, or set SFT_CHROMIUM to its path")
    with playwright.sync_playwright() as started:
        # A container's root has no sandbox to use; the pages come from this test alone.
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def runs(browser: Any, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders by name, made only where there is a browser for their pages.

    declined: the best evaluation is not the last. worse: none beats the untrained model.
    """
    folder = tmp_path_factory.mktemp("runs")
    model = tiny_model_folder
    evaluated = run_folders.evaluated(folder / "evaluated", model)
    resumed = run_folders.resumed(folder / "resumed", model)
    return {
        "quickstart": run_folders.quickstart(folder / "quickstart", model),
        "other": run_folders.quickstart(folder / "other", model, learning_rate=2e-3),
        "evaluated": evaluated,
        "declined": run_folders.evaluated(folder / "declined", model, skills=(1, 2, 3, 0)),
        "worse": run_folders.evaluated(folder / "worse", model, skills=(3, 2, 1, 0)),
        "longbench": run_folders.longbench(folder / "longbench", model),
        "stopped": run_folders.stopped(folder / "stopped", model, at=6),
        "incidents": run_folders.with_incidents(resumed, folder / "incidents"),
        "large": run_folders.large(evaluated, folder / "large"),
        "hostile": run_folders.hostile(folder / "hostile", model),
    }


@pytest.fixture(scope="session")
def pages(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of each run by its name, and ``two``: quickstart and other over each other."""
    from sft.report.page import write_page

    folder = tmp_path_factory.mktemp("pages")
    alone = {name: write_page([run], folder / f"{name}.html") for name, run in runs.items()}
    return {**alone, "two": write_page([runs["quickstart"], runs["other"]], folder / "two.html")}


@pytest.fixture
def show(browser: Any, pages: dict[str, Path]) -> Iterator[Callable[..., Opened]]:
    """Open a page by its name; when the test ends, nothing may have gone wrong in it."""
    opened: list[Opened] = []

    def open_page(name: str | Path, **settings: Any) -> Opened:
        path = name if isinstance(name, Path) else pages[name]
        opened.append(open_file(browser, path, **settings))
        return opened[-1]

    yield open_page
    for one in opened:
        one.close()
        assert one.problems == []


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, which `make test-browser` fetches."""
    if not AXE.exists():
        pytest.skip(f"axe-core is not at {AXE}: make test-browser fetches it")
    return AXE.read_text(encoding="utf-8")
