"""What happens beside the steps of a run, as its options ask."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainingArguments,
)

from sft.config import SFTConfig
from sft.training.adapter_restarts import adapter_restarts
from sft.training.also_write import TrainerLog
from sft.training.dead_adapters import DeadAdapters
from sft.training.early_stopping import StopEarly
from sft.training.fewer_bits import fewer_bits_callbacks
from sft.training.layers_in_turn import layers_in_turn
from sft.training.metrics_file import MetricsFile
from sft.training.plan import Plan
from sft.training.progress import Progress
from sft.training.questions import AnsweredQuestions, make_answerer, read_questions
from sft.training.run_log import LoggedFigures
from sft.training.speed import speed_callbacks
from sft.training.stacks import StackWatch
from sft.training.tracking import tracking


def callbacks_of(
    config: SFTConfig,
    plan: Plan,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    args: TrainingArguments,
) -> list[TrainerCallback]:
    """In the order in which they are called."""
    folder = Path(config.output_dir)
    ours: list[TrainerCallback] = [MetricsFile(folder), Progress(), *fewer_bits_callbacks(config)]
    if args.world_size > 1:
        ours.append(StackWatch(folder, args.process_index, config.ddp_timeout))
    if config.use_lora:
        ours.append(DeadAdapters(config.target_modules))
    ours += speed_callbacks(model, config)
    if "trainer_log" in config.also_write:
        ours.append(TrainerLog(folder))
    if "log" in config.also_write:
        ours.append(LoggedFigures())
    if (turns := layers_in_turn(model, config)) is not None:
        ours.append(turns)
    if (restarts := adapter_restarts(model, config)) is not None:
        ours.append(restarts)
    if config.early_stopping_patience is not None:
        ours.append(StopEarly(config.early_stopping_patience))
    if config.gen_questions_file is not None:
        ours.append(
            AnsweredQuestions(
                read_questions(config.gen_questions_file),
                make_answerer(config, tokenizer, plan.data),
                folder=folder,
                every=config.gen_every_n_steps,
            )
        )
    if (tracked := tracking(config)) is not None:
        ours.append(tracked)  # last: it tells what the others made of a step
    return ours
