"""A rank that is killed, fails or hangs: the run ends, names it, tells where each stood, and goes on exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sft.training.incidents import read_incidents

from .conftest import TRIALS, Case, Nursery, read_losses, read_weights, settings

pytestmark = pytest.mark.slow  # processes that meet, and wait for one that hangs

PATIENCE = 6
STRIKES = {"hang": 3, "die": 5, "error": 5} if TRIALS else {"hang": 3, "error": 5}
"""What happens to rank 1 after which step; every second is saved. (tests/distributed kills one below torchrun.)"""
SAID = {
    "hang": "which does not answer: it died, hangs or is cut off",
    "die": "which does not answer: it died, hangs or is cut off",
    "error": "ValueError: the disk of this machine is full",
}


def missing(folder: Path, what: str, said: str) -> str:
    """What is not as it should be after the end of one rank; empty if nothing is."""
    first = folder / "stacks-rank-0.txt"
    if "lost rank 1 (" not in said or SAID[what] not in said:
        return f"rank 1 is not named: {said[-3000:]}"
    if str(folder / "stacks-rank-*.txt") not in said or "ended by:" not in first.read_text():
        return f"no stacks of rank 0: {said[-3000:]}"
    second = folder / "stacks-rank-1.txt"
    if what == "hang" and not ("misfortune.py" in second.read_text() and "Timeout" in first.read_text()):
        return f"no stack of the rank that hangs: {second.read_text()}"
    if what == "error" and "the disk of this machine is full" not in second.read_text():
        return f"no stack of the rank that failed: {second.read_text()}"
    return ""


@pytest.fixture(scope="module")
def two(fault_rows: Path, tiny_model_folder: Path, shelf: Path) -> dict[str, Any]:
    """Options of a run of two ranks."""
    return {
        **settings(fault_rows, tiny_model_folder, shelf / "cache of two"),
        "per_device_train_batch_size": 2,
        "max_steps": 6,
        "save_steps": 2,
        "ddp_timeout": PATIENCE,
    }


def equal_weights(one: Path, other: Path) -> bool:
    """Of two finished runs, to the last bit."""
    weights, reference = read_weights(one), read_weights(other)
    return weights.keys() == reference.keys() and all(torch.equal(weights[name], reference[name]) for name in weights)


@pytest.fixture(scope="module")
def straight_two(nursery: Nursery, two: dict[str, Any], shelf: Path) -> Path:
    """Its folder, where nothing happens to it."""
    folder = shelf / "straight two"
    seen = nursery.run({**two, "output_dir": str(folder), "ddp_timeout": 60}, ranks=2)
    assert not seen["error"], seen
    assert not list(folder.glob("stacks-rank-*"))
    return folder


def test_a_rank_that_is_lost(
    nursery: Nursery, case: Callable[[str], Case], two: dict[str, Any], straight_two: Path, tmp_path: Path
) -> None:
    folder, resumed = tmp_path / "run", True
    for what, step in STRIKES.items():  # one launch after the other in one folder
        lost = case(f"one rank of two: {what}")
        seen = nursery.run({**two, "output_dir": str(folder)}, ranks=2, strikes=[1, step, what])
        wrong = missing(folder, what, seen["error"]) if seen["error"] else "no error"
        lost.note(not wrong, wrong)
        newest = folder / f"checkpoint-{(step - 1) // 2 * 2}"
        resumed = resumed and newest.is_dir()
    exact = case("a run that lost a rank, started again")
    seen = nursery.run({**two, "output_dir": str(folder), "ddp_timeout": 60}, ranks=2)
    gone = not list(folder.glob("stacks-rank-*"))
    fine = not seen["error"] and resumed and gone and equal_weights(folder, straight_two)
    exact.note(fine and f"resuming from {newest}" in seen["said"], str(seen)[-3000:])


def test_memory_that_runs_out_on_one_rank(
    nursery: Nursery, case: Callable[[str], Case], two: dict[str, Any], straight_two: Path, tmp_path: Path
) -> None:
    """All ranks cut their slices, and do the step again: the same weights as if nothing had happened, but for sums."""
    retried, expected = case("out of memory on one rank of two"), read_weights(straight_two)
    for step, late in ((1, False), (4, True)):
        folder = tmp_path / str(step)
        order = {"script": "out_of_memory", "rows": 1, "step": step, "late": late, "rank": 1}
        seen = nursery.run({**two, "output_dir": str(folder), "ddp_timeout": 60}, ranks=2, **order)
        told = [(line["kind"], line["step"], line["parts"], line["num_rows"]) for line in read_incidents(folder)]
        weights = {} if seen["error"] else read_weights(folder)
        apart = max((float((weights[name] - expected[name]).abs().max()) for name in weights), default=9.0)
        fine = told == [("out of memory", step, 2, 8)] and apart < 1e-5 and ", rank 1)" in seen["said"]
        retried.note(fine, f"{told}, {apart}: {str(seen)[-3000:]}")


def test_a_row_that_does_not_fit_on_one_rank_ends_both(
    nursery: Nursery, case: Callable[[str], Case], two: dict[str, Any], tmp_path: Path
) -> None:
    told = case("a row that does not fit into the memory of one rank of two")
    order = {"script": "out_of_memory", "rows": 0, "step": 2, "late": False, "rank": 1}
    seen = nursery.run({**two, "output_dir": str(tmp_path), "ddp_timeout": 60}, ranks=2, **order)
    errors = [one["error"] or "" for one in seen["ranks"]]
    told.note(all("out of memory with a single row" in error and ", rank 1)" in error for error in errors), errors)


@pytest.mark.parametrize("strategy", ["DDP", "ZeRO-0", "ZeRO-2", "ZeRO-3"] if TRIALS else ["ZeRO-3"])
def test_steps_that_are_not_finite_on_one_rank_are_left_out_on_all(
    strategy: str, nursery: Nursery, case: Callable[[str], Case], two: dict[str, Any], tmp_path: Path
) -> None:
    """As they are in one process that takes the same rows."""
    left_out, order = case("a loss that is NaN on one rank of two"), {"script": "not_finite", "value": "nan"}
    several, alone = tmp_path / "several", tmp_path / "alone"
    if strategy != "DDP":
        pytest.importorskip("deepspeed")
        two = {**two, "deepspeed": zero(int(strategy[-1]))}
    plain = {**two, "deepspeed": None, "gradient_accumulation_steps": 4, "output_dir": str(alone)}
    expected = nursery.run(plain, **order, steps=[2, 4])
    two = {**two, "output_dir": str(several), "ddp_timeout": 60}
    seen = nursery.run(two, ranks=2, **order, rank=1, steps=[2, 4])
    incidents = [(line["kind"], line["step"], line["num_rows"]) for line in read_incidents(several)]
    told = incidents == [("not finite", step, 8) for step in (2, 4)]
    weights = {} if seen["error"] else read_weights(several)
    reference = read_weights(alone)
    apart = max((float((weights[name] - reference[name]).abs().max()) for name in weights), default=9.0)
    steps = [step for step, _ in read_losses(several)]
    fine = not expected["error"] and told and apart < 1e-5 and steps == [1, 3, 5, 6]
    left_out.note(fine, f"{strategy}: {incidents}, {apart}, {steps}: {str(seen)[-3000:]}")


def zero(stage: int) -> dict[str, Any]:
    """A DeepSpeed file, with thresholds so low that a tiny model is shared out."""
    small = {"stage3_param_persistence_threshold": 0, "stage3_prefetch_bucket_size": 0} if stage == 3 else {}
    auto = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {**dict.fromkeys(auto, "auto"), "zero_optimization": {"stage": stage, "reduce_bucket_size": "auto", **small}}
