"""Pictures of a page to look at: each width and scheme, the whole page and each section of it.

python tests/browser/screenshots.py report.html FOLDER
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from viewer import WIDTHS, open_file


def main(page: Path, folder: Path) -> None:
    """Write ``phone-dark.png``, ``phone-dark-1-SECTION.png`` ..."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as started:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for name, width in WIDTHS.items():
            for scheme in ("light", "dark"):
                opened = open_file(browser, page, width=width, scheme=scheme)
                opened.page.evaluate("document.querySelector('.contents').style.position = 'static'")
                opened.page.wait_for_timeout(500)
                opened.page.screenshot(path=folder / f"{name}-{scheme}.png", full_page=True)
                for number, section in enumerate(opened.page.locator("main section").all()):
                    called = section.get_attribute("id") or "section"
                    if section.is_visible():
                        section.screenshot(path=folder / f"{name}-{scheme}-{number}-{called}.png")
                print(name, scheme, "overflow", opened.overflow, opened.problems)
                opened.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
