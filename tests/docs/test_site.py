"""The site of the pages: it is made without a warning, holds every page, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from page_blocks import PAGES, ROOT, relative

pytest.importorskip("sphinx", reason="what makes the site is not installed: pip install 'sft-kit[docs]'")
pytest.importorskip("furo", reason="what makes the site is not installed: pip install 'sft-kit[docs]'")

pytestmark = pytest.mark.slow

NOT_IN_THE_SITE = {"README.md": "its first page is docs/index.md"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = ["-q", "-W", "--keep-going", "-c", "docs", ".", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


class Links(HTMLParser):
    """What a page leads to, and the places in it that can be led to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.places |= {value for key, value in attrs if key in ("id", "name") and value}
        target = values.get("href") or values.get("src")
        if target and not re.match(r"[a-z]+:|//", target):
            self.targets.append(target.split("?")[0])


def test_every_page_is_in_it(site: Path) -> None:
    pages = [relative(page) for page in PAGES if relative(page) not in NOT_IN_THE_SITE]
    assert [page for page in pages if not (site / page).with_suffix(".html").exists()] == []


def test_links_and_places_exist(site: Path) -> None:
    read = {path: Links(path) for path in site.rglob("*.html")}
    lost = [
        (path.name, target) for path, links in read.items() for target in links.targets if not leads(path, target, read)
    ]
    assert lost == []


def leads(path: Path, target: str, read: dict[Path, Links]) -> bool:
    file, _, place = target.partition("#")
    found = (path.parent / file).resolve() if file else path
    if not found.exists():
        return False
    return not place or found not in read or place in read[found].places


def test_messages_and_names_are_listed(site: Path) -> None:
    errors = (site / "docs" / "errors.html").read_text(encoding="utf-8")
    assert "is not known" in errors
    assert errors.count("<details") > 15
    api = (site / "docs" / "api.html").read_text(encoding="utf-8")
    for name in ("SFTConfig", "SFTTrainer", "SFTDataset", "load_config", "run_training", "merge_adapter", "RowError"):
        assert re.search(rf'id="sft[.\w]*\.{name}"', api), name
