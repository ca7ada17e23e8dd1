"""The Python door: ``SFTTrainer(config).train()``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from sft.config import SFTConfig
from sft.notebook.frame import history_frame
from sft.notebook.live import LiveView, display_html, in_notebook
from sft.notebook.page import framed
from sft.report.names import PAGE
from sft.training.assembled import AssembledRun, RunResult
from sft.training.base import RunTrainer
from sft.training.launch import warn
from sft.training.progress import Progress
from sft.training.run import assemble, train

if TYPE_CHECKING:
    import pandas


class SFTTrainer:
    """Fine-tunes as a config says.

    >>> trainer = SFTTrainer(SFTConfig(model_name_or_path="Qwen/Qwen2.5-1.5B", data_path="data/alpaca.json"))
    >>> result = trainer.train()          # doctest: +SKIP
    >>> result.saved.model                # doctest: +SKIP
    PosixPath('output/final_model')

    Data is prepared and the model loaded at the first call that needs them; every call after that uses the same.
    """

    def __init__(self, config: SFTConfig, *, callbacks: Sequence[TrainerCallback] = ()) -> None:
        self.config = config
        self._callbacks = tuple(callbacks)
        self._run: AssembledRun | None = None

    @property
    def run(self) -> AssembledRun:
        """The prepared data, the model and the Trainer underneath, assembled when first asked for."""
        if self._run is None:
            self._run = assemble(self.config, callbacks=self._callbacks)
        return self._run

    @property
    def model(self) -> PreTrainedModel:
        """The model that is trained."""
        return self.run.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer, with the chat template of this run."""
        return self.run.tokenizer

    @property
    def history(self) -> pandas.DataFrame:
        """What was logged so far, a row a step; without rows before ``train`` or ``evaluate``.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return history_frame([] if self._run is None else self._run.trainer.state.log_history)

    def train(self) -> RunResult:
        """Train, evaluate where there is evaluation data, and save. In a notebook, with a chart that grows."""
        if in_notebook():
            watch_in_notebook(self.run.trainer)
        return train(self.run)

    def report(self) -> Path:
        """Write the page of the run, and show it where this is a notebook.

        Returns:
            Where the page lies.

        Raises:
            UserError: there is no run in ``output_dir`` yet.
        """
        from sft.report.page import write_page  # with what draws pages, which few programs use

        folder = Path(self.config.output_dir)
        page = write_page([folder], folder / PAGE)
        if in_notebook():
            display_html(framed(page))
        return page

    def evaluate(self) -> dict[str, Any]:
        """Loss per trained token on the evaluation data, of the model as it is now."""
        metrics: dict[str, Any] = self.run.trainer.evaluate()
        return metrics


def watch_in_notebook(trainer: RunTrainer) -> None:
    """Let a chart and a table take the place of a line for every logged step."""
    if any(isinstance(callback, LiveView) for callback in trainer.callback_handler.callbacks):
        return
    trainer.pop_callback(Progress)
    trainer.add_callback(LiveView(say=warn))
