"""Losses that are no numbers or leap, and memory that runs out: no update of them, the same rows, the run goes on."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from sft.training.bad_steps import FEWEST, SpikeWatch
from sft.training.incidents import read_incidents

from .conftest import TRIALS, Case, Nursery, Straight, difference, read_losses, read_weights

STEPS = 12


def test_steps_that_are_not_finite_are_left_out(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    chosen, left_out = random.Random(1), case("a loss that is NaN or infinite")
    for trial in range(max(2, TRIALS // 10)):
        reference = straight(["full", "packed, accumulated"][trial % 2])
        steps = sorted(chosen.sample(range(1, STEPS + 1), 2))
        value, config = ["nan", "inf"][trial // 2 % 2], {**reference.config, "packing": False}
        config |= {"output_dir": str(tmp_path / f"bad {trial}")}
        asked = {**config, "output_dir": str(tmp_path / f"asked {trial}")}
        seen = nursery.run(config, script="not_finite", steps=steps, value=value)
        nursery.run(asked, script="steps_without_an_update", steps=steps)
        weights, expected = read_weights(tmp_path / f"bad {trial}"), read_weights(tmp_path / f"asked {trial}")
        equal = weights.keys() == expected.keys() and all(
            torch.equal(weights[name], expected[name]) for name in weights
        )
        incidents = read_incidents(tmp_path / f"bad {trial}")
        told = [line["step"] for line in incidents] == steps and all(line["num_rows"] for line in incidents)
        losses = dict(read_losses(tmp_path / f"bad {trial}"))
        honest = not set(steps) & losses.keys() and all(math.isfinite(loss) and loss > 0 for loss in losses.values())
        left_out.note(not seen["error"] and equal and told and honest, f"{steps}: {seen['error']} {incidents} {losses}")


def test_the_rows_of_a_step_are_its_rows(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    """Over an epoch, the rows told of its steps are all rows, each once."""
    reference, told = straight("full"), case("rows of a bad step, told with their places")
    rows = json.loads(Path(reference.config["data_path"]).read_text())
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {**reference.config, "data_path": str(lines), "output_dir": str(tmp_path / "run"), "max_bad_steps": STEPS}
    nursery.run(config, script="not_finite", steps=list(range(1, STEPS + 1)), value="nan")
    places = [place for line in read_incidents(tmp_path / "run")[:5] for place in line["rows"]]
    told.note(sorted(places) == sorted(f"{lines}:{number}" for number in range(1, 41)), places)


def test_too_many_in_a_row_end_the_run_with_good_weights(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, ended = straight("full"), case("losses that stay NaN, then the cause mended")
    config = {**reference.config, "output_dir": str(tmp_path / "run"), "max_bad_steps": 1}
    seen = nursery.run(config, script="not_finite", steps=[7, 8], value="nan")
    stopped = "2 times in a row (max_bad_steps allows 1)" in (seen["error"] or "")
    again = nursery.run(config)
    ended.note(stopped and not again["error"] and not difference(tmp_path / "run", reference), f"{seen} {again}")


def test_a_mean_loss_is_of_the_steps_taken_since_the_last_log(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    """Also where a run goes on: weights that never move have the same loss in every epoch."""
    reference, honest = straight("full"), case("a mean loss beside steps that were left out, after a resume")
    config = {**reference.config, "output_dir": str(tmp_path / "run"), "learning_rate": 1e-12, "logging_steps": 5}
    config |= {"max_steps": 15, "save_steps": 5, "save_total_limit": 3}
    plain = nursery.run({**config, "output_dir": str(tmp_path / "plain")})
    nursery.run(config, script="not_finite", steps=[6, 7], value="nan")
    shutil.rmtree(tmp_path / "run" / "checkpoint-15")
    shutil.rmtree(tmp_path / "run" / "checkpoint-10")
    seen = nursery.run(config, script="not_finite", steps=[7], value="nan")
    losses, expected = dict(read_losses(tmp_path / "run")), dict(read_losses(tmp_path / "plain"))
    close = losses.keys() == expected.keys() and all(abs(losses[at] / expected[at] - 1) < 0.03 for at in expected)
    honest.note(not seen["error"] and not plain["error"] and close, f"{seen['error']} {losses} {expected}")


def test_a_leap_of_the_loss_is_marked(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, marked = straight("full"), case("a loss that leaps")
    config = {**reference.config, "output_dir": str(tmp_path), "learning_rate": 1e-4}
    seen = nursery.run(config, script="spike", steps=[9])
    incidents = read_incidents(tmp_path)
    found = [(line["kind"], line["step"], line["num_rows"]) for line in incidents]
    marked.note(not seen["error"] and found == [("spike", 9, 8)], f"{seen['error']} {incidents}")


def test_wandering_losses_are_no_spikes() -> None:
    chance, watch = random.Random(0), SpikeWatch()
    assert not any(watch.is_spike(3 * math.exp(-step / 300) + chance.gauss(0, 0.1)) for step in range(2000))
    assert watch.is_spike(3.0)
    young = SpikeWatch()
    assert not any(young.is_spike(loss) for loss in [1.0] * (FEWEST - 1) + [100.0])


def test_memory_that_runs_out_makes_slices_smaller(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    chosen, retried = random.Random(2), case("out of memory in a forward or backward pass")
    for trial in range(max(4, TRIALS // 10)):
        kind = ["full", "lora with dropout", "packed, accumulated"][trial % 3]
        reference, folder = straight(kind), tmp_path / str(trial)
        config = (
            {**reference.config, "output_dir": str(folder), "lora_dropout": 0.0}
            if "lora" in kind
            else {**reference.config, "output_dir": str(folder)}
        )
        config |= {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
        plain = nursery.run({**config, "output_dir": str(folder) + " plain"})
        step, late = chosen.randint(1, STEPS), trial % 2 == 1
        seen = nursery.run(config, script="out_of_memory", rows=1, step=step, late=late)
        weights, expected = read_weights(folder), read_weights(Path(str(folder) + " plain"))
        furthest = max(
            (float((weights[name] - expected[name]).abs().max()) for name in expected if name in weights), default=9.0
        )
        incidents = [(line["kind"], line["step"], line["parts"]) for line in read_incidents(folder)]
        told = incidents == [("out of memory", step, 2), ("out of memory", step, 4)]
        fine = not seen["error"] and not plain["error"] and told and furthest < 1e-5
        retried.note(fine, f"{kind}, step {step}, late {late}: {seen['error']} {incidents} {furthest}")


def test_a_row_that_does_not_fit_by_itself_is_a_message(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, told = straight("full"), case("a row that does not fit into memory by itself")
    seen = nursery.run(
        {**reference.config, "output_dir": str(tmp_path)}, script="out_of_memory", rows=0, step=2, late=False
    )
    told.note("out of memory with a single row" in (seen["error"] or ""), seen)
