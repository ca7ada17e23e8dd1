"""The other processes of a run: connected, and named when one of them is lost.

A crashed process is noticed at once, by its closed connection. One that hangs or is cut off the network is noticed when
``ddp_timeout`` has passed. Then those that are left call the roll: who does not answer is named.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from sft.errors import ConfigError, PeerLost, SftError
from sft.training.stacks import keep_stacks

ROLL_SECONDS = 4.0
"""How long the others have to answer once one process has failed: they fail within moments of each other."""
MEETING_POINT = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class RollCall:
    """A board that all processes can write to, held by the launcher or the first process: no collective is needed."""

    board: Any
    """A torch.distributed.Store."""
    rank: int
    size: int
    timeout_seconds: int

    def sign_in(self) -> None:
        """Leave this process's machine name, so that it can be named when it is gone."""
        self.board.set(f"host/{self.rank}", socket.gethostname())

    def sign_out(self, reason: str) -> None:
        """Say that this process ends, and why."""
        self.board.set(f"left/{self.rank}", reason)

    def call(self, seconds: float = ROLL_SECONDS) -> dict[int, str | None]:
        """Rank -> why it ends; None for a rank that did not say so within ``seconds``. This rank is left out."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not all(self.board.check([f"left/{rank}"]) for rank in others):
            time.sleep(0.1)
        return {
            rank: self.board.get(f"left/{rank}").decode() if self.board.check([f"left/{rank}"]) else None
            for rank in others
        }

    def name(self, rank: int) -> str:
        """'rank 1 (host b)'."""
        known = self.board.check([f"host/{rank}"])
        return f"rank {rank} ({self.board.get(f'host/{rank}').decode() if known else 'never connected'})"


_roll_call: RollCall | None = None
"""Of this process: there is one process group in it, too."""
_told = 0
"""Texts of the first process so far."""


def connect(*, size: int, timeout_seconds: int, on_cpu: bool) -> None:
    """Meet the other processes. On GPUs TrainingArguments make the process group; on CPUs it is made here.

    transformers 5.23 passes ``ddp_timeout`` on for GPUs only.

    Raises:
        ConfigError: nothing says where the processes meet.
        PeerLost: they did not meet in time.
    """
    global _roll_call
    missing = [name for name in MEETING_POINT if name not in os.environ]
    if missing:
        raise ConfigError(
            f"{size} processes were started and {' and '.join(missing)} is not set: they cannot find each other. "
            "Export the address of the first machine and a free port, or start them with torchrun."
        )
    patience = timedelta(seconds=timeout_seconds)
    with naming_peers():
        if size > 1 and _roll_call is None:
            board, rank, _ = next(dist.rendezvous("env://", timeout=patience))  # type: ignore[attr-defined]
            _roll_call = RollCall(dist.PrefixStore("sft", board), rank, size, timeout_seconds)  # type: ignore[attr-defined]
            _roll_call.sign_in()
        if on_cpu and not dist.is_initialized():
            dist.init_process_group("gloo", timeout=patience)


@contextmanager
def naming_peers() -> Iterator[None]:
    """Tell the others when this process fails; turn a failure that came from another process into a name.

    Raises:
        PeerLost: another process died, hangs or is cut off.
    """
    try:
        yield
    except PeerLost:
        raise
    except Exception as error:
        if not comes_from_peer(error):
            reason = _first_line(error)
            keep_stacks(error)
            _within(lambda roll: roll.sign_out(reason))
            raise
        with _undisturbed():
            explained = _explain(error)
        raise PeerLost(explained) from error


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A launcher that sees one process die ends the others at once; they have yet to say who it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def comes_from_peer(error: BaseException) -> bool:
    """Whether it is the communication that failed. gloo raises plain RuntimeErrors that name its source files."""
    if isinstance(error, SftError):
        return False
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _explain(error: Exception) -> str:
    here = f"rank {os.environ.get('RANK', '0')} of {os.environ.get('WORLD_SIZE', '1')} ({socket.gethostname()})"
    again = keep_stacks(error)
    again += "Checkpoints are whole: the same command, started on all machines, goes on from the newest."
    if _roll_call is None:
        where = ":".join(os.environ.get(name, "?") for name in MEETING_POINT)
        return (
            f"{here} did not meet the other processes at {where}: {_first_line(error)} Start the same number of "
            "processes with the same address on every machine, and look whether the machines reach each other."
        )
    answers: dict[int, str | None] | None = _within(_call_roll)
    if answers is None:
        names = f"the others: it no longer reaches {os.environ['MASTER_ADDR']}, where they meet"
    else:
        names = "; ".join(_fate(_within_name(rank), reason) for rank, reason in answers.items() if _lost(reason))
    timeout = _roll_call.timeout_seconds
    return (
        f"{here} lost {names or 'its connection to the others'}. Waited at most ddp_timeout = {timeout} s. {again} "
        f"({_first_line(error)})"
    )


def _call_roll(roll: RollCall) -> dict[int, str | None]:
    roll.sign_out("")
    return roll.call()


def _lost(reason: str | None) -> bool:
    """Whether a process failed by itself or is not heard of; an empty reason is of one that lost another, too."""
    return reason is None or bool(reason)


def _fate(name: str, reason: str | None) -> str:
    return f"{name}, which does not answer: it died, hangs or is cut off" if reason is None else f"{name}: {reason}"


def _within_name(rank: int) -> str:
    return _within(lambda roll: roll.name(rank)) or f"rank {rank}"


def _within(ask: Any, seconds: float = ROLL_SECONDS + 2) -> Any:
    """Ask the board, in a thread of its own: over a dead connection an answer never comes. None where there is none."""
    if _roll_call is None:
        return None
    roll, answers = _roll_call, []

    def work() -> None:
        try:
            answers.append(ask(roll))
        except Exception:  # whatever the board's connection does, it is not what ended this run
            return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else None


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else ''}"


def told_by_first(text: str) -> str:
    """The text of the first process, on every process. All call it, in the same order."""
    global _told
    if _roll_call is None:
        return text
    _told += 1
    key = f"told/{_told}"
    if _roll_call.rank == 0:
        _roll_call.board.set(key, text)
        return text
    return str(_roll_call.board.get(key).decode())


def agree(facts: Mapping[str, Any]) -> None:
    """Refuse processes that were told or found different things: they would train one model in different ways.

    Args:
        facts: of this process, under the same names on all; compared by what ``repr`` shows.

    Raises:
        ConfigError: naming the rank and both values.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    told: list[dict[str, str]] = [{}] * dist.get_world_size()
    dist.all_gather_object(told, {name: repr(value) for name, value in facts.items()})
    problems = [
        f"{name}: rank {rank} has {theirs.get(name, 'nothing')}, rank 0 has {value}"
        for rank, theirs in enumerate(told)
        for name, value in told[0].items()
        if theirs.get(name, "nothing") != value
    ]
    if problems:
        raise ConfigError(
            "the processes were not started alike: " + "; ".join(problems[:4]) + ". Start all of them with the same "
            "command, the same files, and an output_dir that all machines share."
        )
