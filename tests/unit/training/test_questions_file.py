"""The user's own questions: those that cannot be read are told first, and each step's are asked once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.training import callbacks
from sft.training.preflight import refuse_early
from sft.training.run import run_training


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            "cannot be read: No such file or directory. It is a text file with one question a line; paths count from",
        ),
        (b"caf\xe9?", "cannot be read: it is no UTF-8. It is a text file"),
        (b"\n \n", "holds no question; write one a line"),
    ],
)
def test_questions_are_looked_at_first(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "questions.txt"
    if content is not None:
        path.write_bytes(content)
    config = SFTConfig(model_name_or_path="/no/model", data_path="/no/data", gen_questions_file=str(path))
    with pytest.raises(ConfigError) as told:
        refuse_early(config)
    assert f"gen_questions_file '{path}' {message}" in str(told.value)


class Crash(TrainerCallback):  # type: ignore[misc]
    """Ends a run as a bug would, after its second checkpoint and the answers of the step after it."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            raise RuntimeError("a bug")


def test_the_untrained_and_the_last_model_are_asked_once(
    tiny_model_folder: Path, alpaca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that died is gone on with: neither step 0 nor the last one is asked again."""
    asked: list[int] = []

    def answer(model: Any, questions: Sequence[str]) -> list[str]:
        asked.append(len(questions))
        return [f"answer {len(asked)}" for _ in questions]

    monkeypatch.setattr(callbacks, "make_answerer", lambda *_: answer)
    (tmp_path / "questions.txt").write_text("Who are you?\nWhy?\n", encoding="utf-8")
    config = SFTConfig(
        model_name_or_path=str(tiny_model_folder),
        data_path=str(alpaca_file),
        output_dir=str(tmp_path / "run"),
        cache_dir=str(tmp_path / "cache"),
        max_length=64,
        max_steps=5,
        save_steps=2,
        save_in_background=False,
        per_device_train_batch_size=2,
        gen_questions_file=str(tmp_path / "questions.txt"),
        gen_every_n_steps=2,
    )
    with pytest.raises(RuntimeError, match="a bug"):
        run_training(config, callbacks=[Crash()])
    assert run_training(config).resumed_from == tmp_path / "run" / "checkpoint-2"
    assert run_training(config).resumed_from == tmp_path / "run" / "checkpoint-5", "no step was left"
    answered = {
        int(path.stem.removeprefix("gen_step_")): json.loads(path.read_text(encoding="utf-8"))
        for path in (tmp_path / "run" / "gen_results").iterdir()
    }
    questions = ("Who are you?", "Why?")
    assert answered == {
        step: [{"question": question, "output": f"answer {number}"} for question in questions]
        for number, step in enumerate((0, 2, 4, 5), start=1)
    }
