"""The one place through which this process speaks to people: lines that stay, and under them one line that changes.

It stands on standard error, so that standard output holds results alone. The line that changes is drawn with carriage
returns and spaces only, and only on a terminal; anywhere else the lines that stay are all there is.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from sft.terminal.folding import folded
from sft.terminal.plain import message, num_columns, plain_line

View = Callable[[int], str]
"""Columns -> a line that is no wider."""

SECONDS_BETWEEN = 0.1
"""The line is drawn anew at most so often."""

ROOM = 3
"""Columns kept free at the right end: a terminal writes ^C there, and a full line would be folded."""

NO = ("", "0", "false", "no", "off")


class Screen:
    """Standard error as people see it. One a process (``SCREEN``); its methods may be called from any thread.

    Args:
        stream: None: what is standard error whenever something is said.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self.quiet = False
        """Only what must be heard is said."""
        self._views: list[View] = []
        self._drawn = 0
        self._drawn_at = 0.0
        self._lock = threading.RLock()

    @property
    def stream(self) -> TextIO:
        """Where it is said."""
        return self._stream or sys.stderr

    @property
    def is_live(self) -> bool:
        """Whether a line may change in place."""
        return not self.quiet and changes_in_place(self.stream)

    def say(self, text: str, *, must_be_heard: bool = False) -> None:
        """Print lines that stay."""
        if self.quiet and not must_be_heard:
            return
        with self._lock:
            text = message(text)
            if is_terminal(self.stream):
                self._erase()
                text = folded(text, columns(self.stream))
            print(text, file=self.stream, flush=True)
            self._draw(at_once=True)

    def show(self, view: View, *, at_once: bool = False) -> None:
        """Draw a line under all others, and keep it there until ``hide``; of several the newest is seen."""
        with self._lock:
            if view not in self._views:
                self._views.append(view)
                at_once = True
            self._draw(at_once=at_once)

    def hide(self, view: View) -> None:
        """Take a line away; the one before it comes back."""
        with self._lock:
            if view in self._views:
                self._views.remove(view)
                self._erase()
                self._draw(at_once=True)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show what is going on, where it is nothing that is counted."""

        def view(width: int) -> str:
            return what

        self.show(view)
        try:
            yield
        finally:
            self.hide(view)

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """Whatever happens inside, no line that it showed stays."""
        before = list(self._views)
        try:
            yield
        finally:
            with self._lock:
                if self._views != before:
                    self._views[:] = before
                    self._erase()
                    self._draw(at_once=True)

    def leave(self) -> None:
        """Take away every line that changes: the process ends, or something else is to speak."""
        with self._lock:
            self._views.clear()
            self._erase()

    def _draw(self, *, at_once: bool) -> None:
        now = time.monotonic()
        if not self._views or not self.is_live or (not at_once and now - self._drawn_at < SECONDS_BETWEEN):
            return
        width = max(1, columns(self.stream) - ROOM)
        line = _clipped(plain_line(self._views[-1](width)), width)
        line += " " * (self._drawn - num_columns(line))
        self.stream.write(f"\r{line}")
        self.stream.flush()
        self._drawn, self._drawn_at = num_columns(line), now

    def _erase(self) -> None:
        if self._drawn:
            blank = min(self._drawn + ROOM, columns(self.stream)) - 1  # with the ^C that a terminal wrote
            self.stream.write(f"\r{' ' * blank}\r")
            self.stream.flush()
            self._drawn = 0


SCREEN = Screen()


def route_warnings() -> None:
    """Let Python's warnings be lines that stay, too, not words behind the line that changes. For a process of ours."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        SCREEN.say(warnings.formatwarning(message, category, filename, lineno).rstrip())

    warnings.showwarning = show


def is_terminal(stream: Any, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody looks at it: a terminal, and not the one that a build (``CI``) records."""
    if environment.get("CI", "").lower() not in NO:
        return False
    return bool(stream is not None and not getattr(stream, "closed", False) and stream.isatty())


def changes_in_place(stream: Any, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a line can be drawn over."""
    return environment.get("TERM") != "dumb" and is_terminal(stream, environment)


def takes_colour(stream: Any, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether colours are wanted: https://no-color.org, and terminals that know none."""
    return not environment.get("NO_COLOR") and changes_in_place(stream, environment)


def columns(stream: Any) -> int:
    """Width of a terminal; of anything else what ``COLUMNS`` says, or 80."""
    try:
        found = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):
        found = 0
    return found or shutil.get_terminal_size().columns


def _clipped(line: str, width: int) -> str:
    """No view is trusted to be as narrow as it was asked to be."""
    while num_columns(line) > width:
        line = line[:-1]
    return line
