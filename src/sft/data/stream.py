"""Training examples that come window by window, from a process that prepares them or from disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, cast

from sft import errors
from sft.data.layout import REPORT
from sft.data.windows import Windows

LOOK_EVERY = 0.05
"""Seconds between two looks for what comes next."""


class NotWaitedFor(Exception):
    """Somebody does not want to wait any longer."""


class Preparing(Protocol):
    """Who prepares the rest."""

    def check(self) -> None:
        """See that it is alive, or note that it is not (``note_failure``)."""

    def close(self) -> None:
        """End it. What is prepared is kept."""


class Stream:
    """Windows that can be waited for.

    Args:
        preparing: None: another process looks after it, or all is there.
        is_given_up: whether waiting is of no use any more.
    """

    def __init__(
        self,
        windows: Windows,
        preparing: Preparing | None = None,
        is_given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.windows = windows
        self.preparing = preparing
        self.is_given_up = is_given_up
        self._since = time.time()

    def wait_for(self, number: int) -> bool:
        """Whether there is a window of that number, as soon as it can be said.

        Raises:
            UserError: the data cannot be used any further.
            RuntimeError: who prepares them is dead.
            NotWaitedFor: see ``is_given_up``.
        """
        return self._wait_until(lambda: self.windows.has(number))

    def wait_for_part(self, name: str) -> None:
        """Wait until a part of the data is complete; see ``wait_for``."""
        self._wait_until(lambda: (self.windows.standing / name / REPORT).exists() or None)

    def _wait_until(self, is_known: Callable[[], bool | None]) -> bool:
        while (found := is_known()) is None:
            if self.preparing is not None:
                self.preparing.check()
            failure = read_failure(self.windows.folder, self._since if self.preparing is None else 0)
            if failure is not None:
                found = is_known()  # what came before the failure counts
                if found is None:
                    raise failure
                return found
            if self.is_given_up():
                raise NotWaitedFor
            time.sleep(LOOK_EVERY)
        return found

    def close(self) -> None:
        """End the preparation, done or not."""
        if self.preparing is not None:
            self.preparing.close()


def failure_of(folder: Path) -> Path:
    """The file beside a folder of prepared data that says why it will not be completed."""
    return Path(f"{folder}.failed")


def note_failure(folder: Path, error: Exception) -> None:
    """Say why, to all who wait."""
    beside = Path(f"{failure_of(folder)}.new")
    beside.write_text(json.dumps({"kind": type(error).__name__, "message": str(error)}), encoding="utf-8")
    beside.replace(failure_of(folder))


def read_failure(folder: Path, since: float = 0) -> Exception | None:
    """What was said of this attempt, as an error of the same kind; None: nothing.

    Args:
        since: what is older was said of an earlier one.
    """
    path = failure_of(folder)
    with suppress(FileNotFoundError):
        if path.stat().st_mtime < since:
            return None
        said = json.loads(path.read_text(encoding="utf-8"))
        kind = getattr(errors, said["kind"], RuntimeError)
        if not issubclass(kind, errors.UserError):
            return RuntimeError(f"{said['kind']}: {said['message']}")
        kind = errors.DataError if kind is errors.RowError else kind  # it is made of parts
        return cast(Exception, kind(said["message"]))
    return None
