"""What looks at a run from beside its steps, and needs its trainer for that."""

from __future__ import annotations

from pathlib import Path

from sft.training.assembled import AssembledRun
from sft.training.memory.measured import Before, MemoryWatch
from sft.training.report_page import ReportPage
from sft.training.run_record import note_strategy
from sft.training.save import ModelSaver
from sft.training.strategy import AskedStrategy
from sft.training.strategy_in_force import StrategyCheck
from sft.training.upload import uploads_while_training


def watch(run: AssembledRun, strategy: AskedStrategy, before: Before) -> None:
    """Let the trainer call those that score answers, check the strategy, measure memory, draw the page and upload.

    Args:
        strategy: the one that was asked for.
        before: this process before the model was loaded.
    """
    config, trainer, folder = run.config, run.trainer, Path(run.config.output_dir)
    saver = ModelSaver(config, trainer, run.tokenizer, run.plan)
    if config.eval_tasks:
        from sft.training.evaluation_setup import build_evaluation  # with engines and scores, which few runs use

        trainer.add_callback(build_evaluation(saver))
    trainer.add_callback(StrategyCheck(strategy, trainer, lambda running: note_strategy(trainer, folder, running)))
    if run.fit is not None:
        trainer.add_callback(MemoryWatch(run.fit, before, folder))
    if config.report_page:
        trainer.add_callback(ReportPage(folder))
    if uploads_while_training(config):
        from sft.training.upload_while_training import UploadWhileTraining  # with the hub's client

        trainer.add_callback(UploadWhileTraining(saver))
