"""SIGTERM, SIGINT and SIGUSR1 at random times, once or twice: the step ends, all is saved, the same command goes on."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

from .conftest import KINDS, TRIALS, Case, Nursery, Straight, difference

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def test_signals_at_random_times(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    chosen, stopped = random.Random(3), case("SIGTERM, SIGINT or SIGUSR1 at a random time")
    for trial in range(max(6, TRIALS // 4)):
        reference, folder = straight(list(KINDS)[trial % len(KINDS)]), tmp_path / str(trial)
        config = {**reference.config, "output_dir": str(folder), "save_in_background": trial % 2 == 0}
        order = {"signal": SIGNALS[trial % 3], "times": 1 + trial % 2}
        seen = nursery.run(config, after=chosen.uniform(0.1, reference.seconds), **order)
        said = seen["error"] or ""
        # before training begins there is nothing to save: the signal does what it always does
        orderly = not said or said.startswith("stopped by SIG") or "KeyboardInterrupt" in said or seen["died"]
        if said.startswith("stopped by SIG"):
            step = int(said.split("after step ")[1].split()[0])
            orderly = orderly and (folder / f"checkpoint-{step}").is_dir()
        last = nursery.run(config)
        wrong = last["error"] or difference(folder, reference)
        stopped.note(orderly and not wrong, f"trial {trial}: {said[:300]} / {wrong}")
