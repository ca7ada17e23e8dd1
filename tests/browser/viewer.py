"""A page in Chromium, opened as a user opens it: from its file, without a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WIDTHS = {"phone": 375, "desk": 1440}
HEIGHTS = {375: 812, 1440: 900}


@dataclass
class Opened:
    """A page and what went wrong in it."""

    page: Any
    context: Any
    problems: list[str] = field(default_factory=list)
    """Errors and warnings of the console, exceptions, and requests other than for the file itself."""

    def close(self) -> None:
        self.context.close()

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        widths = "[document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]"
        page, body, window = self.page.evaluate(widths)
        return int(max(page, body) - window)


def open_file(
    browser: Any, path: Path, *, width: int = 1440, scheme: str = "light", clock: bool = False, scripts: bool = True
) -> Opened:
    """Open ``path`` over ``file://``.

    Args:
        width: of the window in pixels: 375 is a phone.
        scheme: light or dark, as the system prefers it.
        clock: the page's time stands still until the test moves it.
        scripts: whether the browser runs any.
    """
    size = {"width": width, "height": HEIGHTS.get(width, 900)}
    context = browser.new_context(viewport=size, color_scheme=scheme, java_script_enabled=scripts)
    context.set_offline(True)
    page = context.new_page()
    if clock:
        page.clock.install()
    opened = Opened(page, context)
    address = path.resolve().as_uri()

    def on_console(message: Any) -> None:
        if message.type in ("error", "warning"):
            opened.problems.append(f"console: {message.text}")

    def on_request(request: Any) -> None:
        if request.url.partition("#")[0].partition("?")[0] != address and not request.url.startswith("data:"):
            opened.problems.append(f"request: {request.url[:200]}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: opened.problems.append(f"exception: {error}"))
    page.on("request", on_request)
    page.on("dialog", lambda dialog: (opened.problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.goto(address)
    return opened
