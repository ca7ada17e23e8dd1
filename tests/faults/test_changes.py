"""A run whose data, template, seed or batches changed is refused, unless the change is allowed by name and recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .conftest import Case, Nursery, Straight, read_losses

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant: ' }}{% endif %}"
)
CHANGES: dict[str, dict[str, Any]] = {
    "data": {"data_path": None},
    "chat_template": {"chat_template": None},
    "seed": {"seed": 7},
    "rows_per_step": {"gradient_accumulation_steps": 4},
    "optim": {"optim": "sgd"},
    "order": {"train_sampling_strategy": "sequential"},
    "lora_alpha": {"lora_alpha": 3},
    "trained_weights": {"lora_r": 4},
}


def test_a_change_is_refused_by_name(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, refused = straight("lora with dropout"), case("resumed with something changed: refused by name")
    folder = tmp_path / "run"
    shutil.copytree(reference.folder, folder)
    rows = json.loads(Path(reference.config["data_path"]).read_text())
    (tmp_path / "rows.json").write_text(json.dumps(rows[:30]))
    (tmp_path / "template.jinja").write_text(TEMPLATE)
    CHANGES["data"]["data_path"] = str(tmp_path / "rows.json")
    CHANGES["chat_template"]["chat_template"] = str(tmp_path / "template.jinja")
    before = {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    for name, change in CHANGES.items():
        seen = nursery.run({**reference.config, **change, "max_steps": 14, "output_dir": str(folder)})
        after = {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        named = (
            f"--allow_change {name}" in (seen["error"] or "")
            or f"{name}," in (seen["error"] or "").split("allow_change")[-1]
        )
        refused.note("cannot go on from" in (seen["error"] or "") and named and after == before, f"{name}: {seen}")


def test_an_allowed_change_goes_on_and_is_recorded(
    nursery: Nursery, straight: Callable[[str], Straight], case: Callable[[str], Case], tmp_path: Path
) -> None:
    reference, allowed = straight("full"), case("resumed with something changed: allowed and recorded")
    folder = tmp_path / "run"
    shutil.copytree(reference.folder, folder)
    config = {**reference.config, "output_dir": str(folder), "max_steps": 15, "seed": 7, "allow_change": ["seed"]}
    seen = nursery.run(config)
    again = nursery.run({**config, "max_steps": 18})  # the change is the run's own by now
    recorded = json.loads((folder / "run.json").read_text())["allowed_changes"]
    right = recorded == [{"name": "seed", "was": "42", "is": "7", "checkpoint": "checkpoint-12"}]
    steps = [step for step, _ in read_losses(folder)]
    allowed.note(
        not seen["error"] and not again["error"] and right and steps == list(range(1, 19)), f"{seen} {again} {recorded}"
    )
