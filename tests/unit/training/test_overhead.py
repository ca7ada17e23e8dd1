"""What is found out once a run, however many passes it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from sft.config import SFTConfig
from sft.training.run import run_training


def test_a_model_is_not_unwrapped_in_each_pass(
    tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwrap, counts = Accelerator.unwrap_model, list[int]()

    def counted(*args: Any, **kwargs: Any) -> Any:
        counts[-1] += 1
        return unwrap(*args, **kwargs)

    monkeypatch.setattr(Accelerator, "unwrap_model", counted)
    for passes in (1, 4):
        counts.append(0)
        run_training(
            SFTConfig(
                model_name_or_path=str(tiny_model_folder),
                data_path=str(alpaca_file),
                cache_dir=str(tmp_path / "cache"),
                output_dir=str(tmp_path / f"run {passes}"),
                gradient_accumulation_steps=passes,
                max_steps=2,
                save_strategy="no",
                memory_check="off",
            )
        )
    assert counts[0] == counts[1]
