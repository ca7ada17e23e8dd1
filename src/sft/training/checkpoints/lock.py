"""One run per output folder. The operating system drops the lock of a process that is gone, however it ended."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sft.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

P = ParamSpec("P")
R = TypeVar("R")

LOCK = ".lock"
_held: dict[Path, int] = {}
"""Folder -> open handle on its lock, of this process."""
_guard = threading.Lock()


def hold_folder(output_dir: Path) -> None:
    """Make the folder if it is not there, see that it can be written to, and keep other runs out of it.

    A process that holds it already goes on holding it.

    Raises:
        ConfigError: the folder cannot be written to, or another run holds it.
    """
    with _guard:
        folder = output_dir.absolute()
        if folder in _held:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = _take(folder / LOCK)
        except OSError as error:
            raise ConfigError(
                f"output_dir {str(output_dir)!r} cannot be written to: {error.strerror or error}. Nothing of a run "
                "could be kept there. Choose another folder, or make this one writable."
            ) from error
        if handle is None:
            raise ConfigError(
                f"output_dir {str(output_dir)!r} is in use by {_holder(folder / LOCK)}. Two runs in one folder would "
                "remove each other's checkpoints. Wait for that run, end it, or choose another output_dir."
            )
        _held[folder] = handle


def release_folder(output_dir: Path) -> None:
    """Let other runs in. Does nothing where this process does not hold the folder."""
    with _guard:
        handle = _held.pop(output_dir.absolute(), None)
        if handle is not None:
            (output_dir / LOCK).unlink(missing_ok=True)  # while it is held: nobody else has it open and locked
            os.close(handle)


def released_on_failure(assemble: Callable[P, R]) -> Callable[P, R]:
    """Let go of output_dir when the assembling of a run, whose first argument is its config, fails."""

    @wraps(assemble)
    def assembling(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return assemble(*args, **kwargs)
        except BaseException:
            config: Any = args[0] if args else kwargs["config"]
            release_folder(Path(config.output_dir))
            raise

    return assembling


def released_at_end(train: Callable[P, R]) -> Callable[P, R]:
    """Let go of output_dir when the training of an assembled run ends or fails, after its last checkpoint."""

    @wraps(train)
    def training(*args: P.args, **kwargs: P.kwargs) -> R:
        run: Any = args[0] if args else kwargs["run"]
        try:
            return train(*args, **kwargs)
        finally:
            run.trainer.keeper.settle()
            release_folder(Path(run.config.output_dir))

    return training


def _take(path: Path) -> int | None:
    """An open, locked handle with our name in the file; None if a living process has it.

    Raises:
        OSError: the file cannot be made or written.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _lock(handle, path):
                os.close(handle)
                return None
            if _is_still(path, handle):
                text = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
                os.ftruncate(handle, 0)
                os.write(handle, text.encode())
                os.fsync(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder released it, and the file, between our two calls


def _lock(handle: int, path: Path) -> bool:
    """Whether the lock is ours now. Where a file system has no locks, what the file says is believed."""
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:
            pass
    return not _says_alive(path)


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _read(path: Path) -> tuple[str, int] | None:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return str(said["host"]), int(said["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _says_alive(path: Path) -> bool:
    """Whether the process named in the file may still run: one of another machine may."""
    said = _read(path)
    if said is None:
        return False
    host, pid = said
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _holder(path: Path) -> str:
    said = _read(path)
    return "another process" if said is None else f"process {said[1]} on {said[0]}"


def _forget() -> None:
    """A forked child (a worker that builds batches) is not the run: it must not keep the lock alive."""
    global _guard
    _guard = threading.Lock()
    for handle in _held.values():
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
