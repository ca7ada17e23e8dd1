"""Where a step cannot be done again, the message says with what the run goes on, and with that it does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sft.config import SFTConfig
from sft.errors import OutOfMemory
from sft.training.out_of_memory import fewer_at_a_time
from sft.training.run import run_training

CLOSE = 1e-5
"""Weights after a few steps, where a step's rows are added up in other groups."""


@pytest.mark.parametrize(
    ("rows", "slices", "fewer"),
    [(8, 1, (4, 2)), (4, 3, (2, 6)), (2, 5, (1, 10)), (3, 1, (1, 3)), (6, 1, (3, 2)), (5, 2, (2, 5)), (1, 8, None)],
)
def test_the_next_smaller_slices_hold_the_same_rows(rows: int, slices: int, fewer: tuple[int, int] | None) -> None:
    assert fewer_at_a_time(rows, slices) == fewer
    if fewer is not None:
        assert fewer[0] * fewer[1] == rows * slices


@pytest.fixture
def settings(tiny_model_folder: Path, tmp_path: Path) -> dict[str, Any]:
    rows = [
        {
            "conversations": [{"from": "human", "value": f"Count to {number}"}],
            "chosen": {"from": "gpt", "value": " ".join(str(n) for n in range(1, number % 7 + 2))},
            "rejected": {"from": "gpt", "value": "No" + " no" * (number % 4) + "."},
        }
        for number in range(1, 21)
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(rows), encoding="utf-8")
    return {
        "stage": "dpo",
        "model_name_or_path": str(tiny_model_folder),
        "data_path": str(tmp_path / "pairs.json"),
        "cache_dir": str(tmp_path / "cache"),
        "use_lora": True,
        "max_length": 128,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "save_steps": 1,
        "logging_steps": 1,
        "quiet": True,
    }


@pytest.mark.filterwarnings("ignore")  # TRL's own deprecations
def test_a_run_of_preferences_goes_on_with_what_its_message_says(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl", reason="the extra `dpo` is not installed (pip install -e '.[dpo]')")
    from sft.training.dpo import PreferenceTrainer, num_pairs

    straight = run_training(SFTConfig(**settings, output_dir=str(tmp_path / "straight")))
    learn = PreferenceTrainer.compute_loss

    def learn_two(self: Any, model: Any, inputs: Any, *args: Any, **more: Any) -> Any:
        if num_pairs(inputs) > 2 and self.state.global_step == 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 17179869184 bytes")
        return learn(self, model, inputs, *args, **more)

    monkeypatch.setattr(PreferenceTrainer, "compute_loss", learn_two)
    output = {"output_dir": str(tmp_path / "small")}
    with pytest.raises(OutOfMemory, match=r"step 3: out of memory \(DefaultCPUAllocator") as ended:
        run_training(SFTConfig(**settings, **output))
    words = dict(re.findall(r"--(\w+) (\d+)", str(ended.value)))
    assert words == {"per_device_train_batch_size": "2", "gradient_accumulation_steps": "2"}
    assert "instead of 4 and 1" in str(ended.value)

    again = run_training(SFTConfig(**{**settings, **output, **{name: int(value) for name, value in words.items()}}))
    assert again.resumed_from == tmp_path / "small" / "checkpoint-2"
    assert json.loads((tmp_path / "small" / "run.json").read_text())["allowed_changes"] == [], "it is the same run"
    there, here = (load_file(one.saved.model / "adapter_model.safetensors") for one in (straight, again))
    furthest = max(float((there[name] - here[name]).abs().max()) for name in there)
    assert furthest <= CLOSE
    assert any(bool(torch.any(weight != 0)) for name, weight in here.items() if "lora_B" in name)
