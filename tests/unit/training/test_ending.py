"""A run that ends by an exception says so in its folder: the page is of its end, not of the last time it was drawn."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from sft.config import SFTConfig
from sft.errors import TrainingStopped
from sft.report.reading import read_run
from sft.training.run import run_training

TOKEN = "hf_" + "abcdefghij" * 3


class EndAt(TrainerCallback):  # type: ignore[misc]
    """Raises when a step is done."""

    def __init__(self, step: int, error: BaseException) -> None:
        self.step = step
        self.error = error

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise self.error


@pytest.fixture
def config(tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path) -> SFTConfig:
    return SFTConfig(
        model_name_or_path=str(tiny_model_folder),
        data_path=str(alpaca_file),
        output_dir=str(tmp_path / "run"),
        cache_dir=str(tmp_path / "cache"),
        max_steps=4,
        max_length=64,
        logging_steps=1,
        save_steps=2,
        save_in_background=True,
    )


def test_the_page_tells_when_and_why_it_ended_until_the_run_goes_on(config: SFTConfig) -> None:
    folder = Path(config.output_dir)
    began = time.time()
    with pytest.raises(RuntimeError, match="a bug"):
        run_training(config, callbacks=[EndAt(3, RuntimeError(f"a bug, with {TOKEN} in it"))])
    story = read_run(folder)
    assert (story.ended["how"], story.ended["step"]) == ("failed", 3)
    assert began <= story.ended["time"] <= time.time()
    assert story.ended["why"].startswith("RuntimeError: a bug, with [")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ">Failed<" in page
    assert "RuntimeError: a bug, with [" in page
    assert TOKEN not in page
    assert '"step": 2, "kind": "checkpoint"' in page.replace(
        '"step":2,"kind":"checkpoint"', '"step": 2, "kind": "checkpoint"'
    )
    assert "This page renews itself" not in page

    with pytest.raises(TrainingStopped):
        run_training(config, callbacks=[EndAt(3, TrainingStopped("stopped by SIGTERM after step 3"))])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ">Stopped<" in page
    assert "stopped by SIGTERM after step 3" in page
    assert "a bug" not in page

    run_training(config)
    assert "ended" not in json.loads((folder / "run.json").read_text())
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ">Finished<" in page
    assert "stopped by SIGTERM" not in page
