"""Long output on a terminal goes through a pager, as git's does: ``$PAGER``, or ``less -R``; all else is printed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from sft.terminal.screen import SCREEN, is_terminal

DEFAULT = "less -R"
SETTINGS = {"LESS": "R", "LESSCHARSET": "utf-8"}
"""Of less, where the user has none: it shows colours, and what is not ASCII, as they are."""


class Page:
    """What is written is kept until it is longer than the screen; then a pager is started, and gets it as it comes."""

    def __init__(self) -> None:
        self.is_watched = is_terminal(sys.stdout)
        self._words = pager_words() if self.is_watched else []
        self._kept: list[str] = []
        self._num_lines = 0
        self._remarks: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    @property
    def is_paged(self) -> bool:
        """Whether a pager shows it."""
        return self._process is not None

    def write(self, text: str) -> None:
        """Show lines.

        Raises:
            BrokenPipeError: who read it left.
        """
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(f"{text}\n")
        elif not self._words:
            print(text)
        else:
            self._kept.append(text)
            self._num_lines += text.count("\n") + 1
            if self._num_lines >= screen_lines():
                self._start()

    def remark(self, text: str) -> None:
        """Say something on standard error; while a pager may own the terminal, when it has gone."""
        if self.is_watched:
            self._remarks.append(text)
        else:
            SCREEN.say(text, must_be_heard=True)

    def close(self) -> None:
        """Wait until the reader has seen enough."""
        if self._process is not None:
            with suppress(BrokenPipeError):
                self._process.communicate()
            self._process = None
        self._flush()
        for text in self._remarks:
            SCREEN.say(text, must_be_heard=True)
        self._remarks.clear()

    def _start(self) -> None:
        environment = {**SETTINGS, **os.environ}
        try:
            self._process = subprocess.Popen(
                self._words, stdin=subprocess.PIPE, text=True, encoding="utf-8", env=environment
            )
        except OSError as error:
            self.remark(f"note: the pager {self._words[0]} could not be started ({error.strerror}), so all is printed")
            self._words = []
            self._flush()
            return
        kept, self._kept = self._kept, []
        self.write("\n".join(kept))

    def _flush(self) -> None:
        if self._kept:
            print("\n".join(self._kept))
            self._kept.clear()


@contextmanager
def paged() -> Iterator[Page]:
    """A page for the block's output. A reader who leaves the pager, or interrupts it, ends the block."""
    page = Page()
    try:
        yield page
    except (BrokenPipeError, KeyboardInterrupt):
        if not page.is_paged:
            raise
    finally:
        _closed_for_good(page.close)


def pager_words(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The pager's command; empty where none is wanted: ``PAGER`` is empty or cat, or the terminal is a dumb one."""
    words = shlex.split(environment.get("PAGER", DEFAULT))
    if not words or words == ["cat"] or environment.get("TERM") == "dumb":
        return []
    return words


def screen_lines() -> int:
    """Lines of the terminal."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).lines or 24
    except (OSError, ValueError):
        return 24


def _closed_for_good(close: Callable[[], None]) -> None:
    """Ctrl-C is the pager's while it runs: it reaches this process, too, and must not leave the pager alone."""
    while True:
        try:
            return close()
        except KeyboardInterrupt:
            continue
