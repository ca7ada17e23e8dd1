"""SIGTERM, SIGINT and SIGUSR1 at random times, once or twice: the step ends, all is saved, the same command goes on."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from .conftest import KINDS, TRIALS, Case, Nursery, Straight, difference, read_weights

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


@pytest.mark.parametrize("step", [3, 6, 9, 12])
def test_a_signal_in_a_step_that_is_evaluated(
    step: int, nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    """Its evaluation loss is measured all the same: by it the best step is chosen."""
    reference, folder, stopped = straight("best kept"), tmp_path / "run", case("SIGTERM in a step that is evaluated")
    config = {**reference.config, "output_dir": str(folder)}
    seen = nursery.run(config, script="signal_in_step", step=step)
    orderly = f"stopped by SIGTERM after step {step} " in (seen["error"] or "") if step < 12 else not seen["error"]
    again = nursery.run(config)
    same = evaluation_losses(folder) == evaluation_losses(reference.folder)
    wrong = again["error"] or difference(folder, reference)
    stopped.note(orderly and same and not wrong, f"{seen}, {evaluation_losses(folder)}, {wrong}")


def evaluation_losses(folder: Path) -> dict[int, float]:
    """Evaluation loss by step, of metrics.jsonl."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["eval_loss"] for line in lines if "eval_loss" in line}


def test_a_run_that_is_put_to_sleep(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    chosen, woken = random.Random(4), case("SIGSTOP at a random time, then SIGCONT")
    for trial in range(max(1, TRIALS // 20)):
        reference, folder = straight("full"), tmp_path / str(trial)
        config = {**reference.config, "output_dir": str(folder), "save_in_background": trial % 2 == 0}
        after = chosen.uniform(0.1, reference.seconds * 0.9)
        seen = nursery.run(config, after=after, signal=signal.SIGSTOP, asleep=0.3)
        woken.note(not seen["died"] and not seen["error"] and not difference(folder, reference), seen)


def test_a_signal_in_an_evaluation_by_generation(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    """No more answers are waited for; the run that goes on begins with that evaluation, and ends as if undisturbed."""
    stopped, file = case("SIGTERM while answers are generated"), tmp_path / "questions.csv"
    lines = ["Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source"]
    lines += [f"Plain,Sums,What is {n} and one?,{n + 1},{n + 1},{n - 1},none" for n in range(1, 13)]
    file.write_text("\n".join(lines) + "\n")
    asked = {"eval_tasks": ["truthfulqa"], "truthfulqa_file": str(file), "eval_steps": 2, "max_steps": 4}
    config = {**straight("full").config, **asked, "save_steps": 4}
    plain = nursery.run({**config, "output_dir": str(tmp_path / "plain")})
    assert not plain["error"], plain
    weights, scores = read_weights(tmp_path / "plain"), evaluations(tmp_path / "plain")
    assert [step for step, _ in scores] == [0, 2, 4]
    for step in (0, 2, 4):
        folder = tmp_path / str(step)
        seen = nursery.run({**config, "output_dir": str(folder)}, script="signal_in_evaluation", step=step)
        before = [at for at, _ in evaluations(folder)]
        where = f"after step {step} of 4" if step else "before the first step"
        said = f"stopped by SIGTERM {where}" in (seen["error"] or "")
        saved = [path.name for path in folder.glob("checkpoint-*")] == ([f"checkpoint-{step}"] if step else [])
        again = nursery.run({**config, "output_dir": str(folder)})
        same = not again["error"] and evaluations(folder) == scores
        equal = same and all(torch.equal(value, weights[name]) for name, value in read_weights(folder).items())
        orderly = said and saved and before == [at for at in (0, 2, 4) if at < step]
        stopped.note(orderly and equal, f"step {step}: {seen['error']}, {before}, {saved}, {again}")


def evaluations(folder: Path) -> list[tuple[int, Any]]:
    """Step and results of each entry of a run's history."""
    path = folder / "eval_history.json"
    entries = json.loads(path.read_text())["history"] if path.exists() else []
    return [(entry["step"], (entry["combined_score"], entry["results"])) for entry in entries]
