"""The user's own questions, answered while the model is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from sft.config import SFTConfig
from sft.data.making import make_renderer
from sft.data.prepare import PreparedData
from sft.errors import ConfigError
from sft.generation.in_process import generate

FOLDER = "gen_results"
FILE = "gen_step_{step}.json"


class AnsweredQuestions(TrainerCallback):  # type: ignore[misc]
    """The user's questions, answered into ``gen_results/gen_step_N.json`` at the steps of ``is_asked``.

    Each step is asked once: a run that is gone on with has the answers of its checkpoint's step already.
    """

    def __init__(
        self, questions: Sequence[str], answer: Callable[[Any, Sequence[str]], list[str]], *, folder: Path, every: int
    ) -> None:
        self.questions = questions
        self.answer = answer
        self.folder = folder / FOLDER
        self.every = every

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not state.global_step:
            self.ask(kwargs["model"], state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if is_asked(state, self.every):
            self.ask(kwargs["model"], state)

    def ask(self, model: Any, state: TrainerState) -> None:
        """Let the model answer as it is now; every process calls it, the first one writes."""
        outputs = self.answer(model, self.questions)
        if not state.is_world_process_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        answered = [
            {"question": question, "output": output} for question, output in zip(self.questions, outputs, strict=True)
        ]
        path = self.folder / FILE.format(step=state.global_step)
        path.write_text(json.dumps(answered, ensure_ascii=False, indent=2), encoding="utf-8")


def is_asked(state: TrainerState, every: int) -> bool:
    """Whether questions are asked at a step: of the untrained model, every so many steps, and after the last one."""
    step = int(state.global_step)
    return step % every == 0 or step >= int(state.max_steps)


def read_questions(path: str) -> list[str]:
    """Questions, one a line; empty lines are passed over.

    Raises:
        ConfigError: the file cannot be read or holds no question.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ConfigError(
            f"gen_questions_file {path!r} cannot be read: {why}. It is a text file with one question a line; paths "
            f"count from {str(Path.cwd())!r}"
        ) from error
    questions = [line.strip() for line in lines if line.strip()]
    if not questions:
        raise ConfigError(f"gen_questions_file {path!r} holds no question; write one a line")
    return questions


def make_answerer(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, data: PreparedData
) -> Callable[[Any, Sequence[str]], list[str]]:
    """(model, questions) -> greedy answers, prompted exactly as the training data was; texts are gone on with."""
    report = data.train.report
    system = [] if config.system_prompt is None else [{"role": "system", "content": config.system_prompt}]
    renderer = make_renderer(config, tokenizer)

    def prompt(question: str) -> str | list[int]:
        if config.stage == "pretrain":
            return renderer.text_ids(question)
        text: str = tokenizer.apply_chat_template(
            [*system, {"role": "user", "content": question}],
            tokenize=False,
            add_generation_prompt=True,
            **report.generation_kwargs,
        )
        return text

    def answer(model: Any, questions: Sequence[str]) -> list[str]:
        return generate(
            model,
            tokenizer,
            [prompt(question) for question in questions],
            max_new_tokens=config.gen_max_new_tokens,
            stop_token_ids=report.stop_token_ids,
        )

    return answer
