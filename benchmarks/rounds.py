"""The frame of every benchmark: contestants take turns, each in a process and an environment of its own.

A benchmark is a program with two faces. Called by a person it makes the work once, lets ``take_turns`` run its
contestants, checks that they computed the same and hands the result to ``publish``. Called with ``--measure NAME`` in a
contestant's environment it measures that one and ends with ``report``, one line of JSON.

A result is a file in ``results/``, written after every round, so that what was measured is not lost;
``page.py`` makes docs/benchmarks.md from these files alone.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peers import PEERS

HERE = Path(__file__).resolve().parent
RESULTS = Path(os.environ.get("SFT_BENCH_RESULTS", HERE / "results"))
"""Where results go; the variable is for trying a benchmark out."""

Figures = dict[str, Any]
Result = dict[str, Any]

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "AXOLOTL_DO_NOT_TRACK": "1",
    "DISABLE_VERSION_CHECK": "1",
    "WANDB_DISABLED": "true",
    "TRANSFORMERS_VERBOSITY": "error",
    "CUDA_VISIBLE_DEVICES": "",
}
"""Environment variables of every contestant: nothing is fetched, nothing is told to anybody, no GPU is used."""

OURS = ("sft-kit", "transformers", "tokenizers", "torch")


@dataclass(frozen=True)
class Contestant:
    """Who takes part, and in which environment."""

    name: str
    peer: str | None = None
    """A key of ``PEERS``; None for the environment that runs the benchmark."""

    @property
    def packages(self) -> tuple[str, ...]:
        return OURS if self.peer is None else PEERS[self.peer].packages

    def python(self) -> str:
        return sys.executable if self.peer is None else str(PEERS[self.peer].python)

    def problem(self) -> str | None:
        """Why it cannot take part; None where it can."""
        return None if self.peer is None else PEERS[self.peer].problem()


def take_turns(
    contestants: Sequence[Contestant],
    measure: Callable[[Contestant], Figures],
    *,
    rounds: int,
    after_round: Callable[[Result], None] = lambda _: None,
) -> Result:
    """Every contestant once a round, in turns that go forth and back, so that a drift of the machine hits all of them.

    One whose environment is missing, or that fails, is left out with the reason, which the table shows.
    """
    taking_part = [contestant for contestant in contestants if contestant.problem() is None]
    skipped = {one.name: str(one.problem()) for one in contestants if one not in taking_part}
    measured: dict[str, list[Figures]] = {one.name: [] for one in taking_part}
    busy: list[float] = []
    result: Result = {}
    for number in range(rounds):
        for one in taking_part if number % 2 == 0 else reversed(taking_part):
            if one.name in skipped:
                continue
            busy.append(round(os.getloadavg()[0], 2))
            started = time.perf_counter()
            try:
                measured[one.name].append(measure(one))
            except ContestantError as error:
                skipped[one.name] = str(error)
                print(f"{one.name}: left out: {error}", file=sys.stderr, flush=True)
            else:
                print(
                    f"round {number + 1}, {one.name}: {time.perf_counter() - started:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
        done = {name: found for name, found in measured.items() if found and name not in skipped}
        result = {"measured": done, "skipped": skipped, "rounds": number + 1, "load_before_each": busy}
        after_round(result)
    return result


class ContestantError(Exception):
    """A contestant could not be measured."""


def run_alone(contestant: Contestant, script: str, words: Iterable[str], *, timeout: float = 600) -> Figures:
    """One measurement in a process of its own: ``script --measure NAME words``; its last line is the figures.

    Raises:
        ContestantError: it failed, or took too long.
    """
    command = [contestant.python(), script, "--measure", contestant.name, *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment(), timeout=timeout,
            cwd=tempfile.gettempdir(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ContestantError(f"not done after {timeout:.0f} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["nothing was said"]
        print("\n".join(lines[-30:]), file=sys.stderr)
        raise ContestantError(f"exit code {done.returncode}: {lines[-1].strip()[:200]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def environment() -> dict[str, str]:
    """That of every contestant: all cores, our folder of benchmarks to import from, bytecode kept."""
    cores = str(os.cpu_count() or 1)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    return {"OMP_NUM_THREADS": cores} | kept | QUIET | {"PYTHONPATH": path}


def report(figures: Figures, packages: Sequence[str]) -> None:
    """The last line of a measurement."""
    print(json.dumps(figures | {"versions": versions_of(packages)}))


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Those that are installed here."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def publish(name: str, *, about: dict[str, Any], parts: dict[str, Result]) -> None:
    """Write ``results/NAME.json``: what was measured, when, and on which machine. Parts of other titles stay in it.

    Args:
        about: what was worked on, for the reader of the table.
        parts: results of ``take_turns`` by title; there is more than one where a benchmark has several tables.
    """
    RESULTS.mkdir(exist_ok=True)
    where = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": describe_machine(),
        "about": about,
    }
    earlier = (read_result(name) or {"parts": {}})["parts"]
    content = {"parts": earlier | {title: where | part for title, part in parts.items()}}
    path = RESULTS / f"{name}.json"
    path.with_suffix(".partial").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".partial").replace(path)


def read_result(name: str) -> dict[str, Any] | None:
    """What ``publish`` wrote; None where nothing was measured."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def describe_machine() -> str:
    """Cores, make, vector units and GPU, and nothing by which the very machine could be told."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    model = next((line.partition(":")[2] for line in text.splitlines() if line.startswith("model name")), "")
    make = "an AMD EPYC" if "EPYC" in model else "an Intel Xeon" if "Xeon" in model else f"a {platform.machine()} CPU"
    vectors = " with AVX-512" if "avx512f" in text else " with AVX2" if "avx2" in text else ""
    return f"{os.cpu_count()} cores of {make}{vectors}, no GPU, Python {platform.python_version()}"


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, smallest and largest."""
    return statistics.median(values), min(values), max(values)


def column(found: Sequence[Figures], key: str) -> list[float]:
    """One figure of all rounds."""
    return [figures[key] for figures in found if figures.get(key) is not None]
