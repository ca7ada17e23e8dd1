"""The second half of the walk: prepared data -> trained, saved, recorded run.

prepare  ->  make_plan  ->  build_model  ->  build_trainer  ->  train  ->  save
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments, set_seed

from sft.config import SFTConfig
from sft.data.prepare import PreparedData
from sft.models.context import ContextGroup
from sft.models.tokenizer import load_tokenizer_for
from sft.terminal.screen import SCREEN
from sft.training.arguments import training_arguments
from sft.training.assembled import AssembledRun, RunResult, is_last
from sft.training.attention_choice import settle_attention
from sft.training.base import RunTrainer
from sft.training.build import build_trainer, pad_id
from sft.training.build_model import build_model
from sft.training.checkpoints.keeper import saying_what_stays
from sft.training.checkpoints.lock import released_at_end, released_on_failure
from sft.training.ending import told_how_it_ended
from sft.training.fewer_bits import apply_fewer_bits
from sft.training.gather import loading_whole_models, share_out_again
from sft.training.launch import announce, doing, is_main_process, quiet_libraries
from sft.training.memory.check import check_memory
from sft.training.memory.measured import Before
from sft.training.parallel import (
    let_ddp_search,
    refuse_other_strategy,
    shared_facts,
    start_context,
    start_processes,
)
from sft.training.peers import agree, naming_peers
from sft.training.plan import make_plan
from sft.training.preflight import checkpoint_for_all, open_folder, prepare_for_run, refuse_early
from sft.training.run_record import record_beginning, record_end
from sft.training.save import ModelSaver, save_run
from sft.training.strategy import AskedStrategy
from sft.training.stream_end import plan_at_the_end, while_it_streams
from sft.training.task_data import task_rows
from sft.training.tracking import tracked_to_its_end
from sft.training.unpacked import packed_or_by_length
from sft.training.unseen_tokens import tell_unseen_tokens
from sft.training.watchers import watch


def run_training(config: SFTConfig, *, callbacks: Sequence[TrainerCallback] = ()) -> RunResult:
    """Do everything a config asks for and return what it left behind.

    Raises:
        UserError: the config, the data or the model cannot be used as given; nothing was trained.
    """
    return train(assemble(config, callbacks=callbacks))


@naming_peers()
@released_on_failure
def assemble(config: SFTConfig, *, callbacks: Sequence[TrainerCallback] = ()) -> AssembledRun:
    """Prepare the data, then start the process group, then load the model."""
    SCREEN.quiet = config.quiet
    quiet_libraries()
    config = packed_or_by_length(config)
    strategy = refuse_early(config)
    checkpoint = open_folder(config)
    tokenizer = load_tokenizer_for(config)
    data = prepare_for_run(config, tokenizer, task_rows(config, tokenizer))
    if data.stream is None:
        tell_unseen_tokens(config, tokenizer, data.train.examples)
    args, checkpoint = start(config, strategy, data, checkpoint)
    set_seed(config.seed)
    context = start_context(strategy)
    plan = make_plan(config, data, row_groups=strategy.mesh.row_groups)
    only_saved = is_last(checkpoint, config, plan)
    fit = None if only_saved else check_memory(config, strategy, plan, tokenizer)
    before = Before.now()
    model = load_for_run(config, tokenizer, data, context, whole=only_saved)
    let_ddp_search(args, model)
    parts: dict[str, Any] = {"plan": plan, "model": model, "tokenizer": tokenizer, "args": args}
    trainer = build_trainer(config, **parts, callbacks=callbacks, mesh=strategy.mesh, context=context)
    run = AssembledRun(config, plan, tokenizer, model, trainer, checkpoint, fit)
    watch(run, strategy, before)
    record_beginning(run, strategy)
    return run


def start(
    config: SFTConfig, strategy: AskedStrategy, data: PreparedData, found: Path | None
) -> tuple[TrainingArguments, Path | None]:
    """Start the processes as asked, and see that all of them are about to do the same.

    Args:
        found: the checkpoint to go on from, in the first process.

    Returns:
        The arguments, and that checkpoint in every process.
    """
    start_processes(strategy, timeout_seconds=config.ddp_timeout)
    checkpoint = checkpoint_for_all(config, found)
    args = training_arguments(
        config,
        has_eval=data.eval is not None,
        resuming=checkpoint is not None,
        deepspeed=None if strategy.deepspeed is None else strategy.deepspeed.values,
        shared_by_library=strategy.mesh.is_by_library,
    )
    refuse_other_strategy(strategy, args)
    agree(shared_facts(config, strategy, data=data.cache.folder.name, checkpoint=checkpoint))
    return args, checkpoint


def load_for_run(
    config: SFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    data: PreparedData,
    context: ContextGroup | None,
    *,
    whole: bool,
) -> PreTrainedModel:
    """The model as it will compute: its trained weights chosen, its attention proven, its layers rounded.

    Args:
        context: the processes that share rows with this one.
        whole: each process holds all of it, for it is only to be saved.
    """
    with loading_whole_models() if whole else nullcontext():
        model = build_model(config, tokenizer, whole=whole)
    settle_attention(model, config, data, pad_id(tokenizer), context)
    share_out_again(model)
    apply_fewer_bits(model, config)  # after that proof: rounding leaps where sums differ by an ulp
    return model


@released_at_end
@tracked_to_its_end
@told_how_it_ended
@naming_peers()
def train(run: AssembledRun) -> RunResult:
    """Train an assembled run to its end, save what came of it and complete its record."""
    started = time.perf_counter()
    trainer, folder = run.trainer, Path(run.config.output_dir)
    train_loss, metrics = take_steps(run)
    plan = plan_at_the_end(run.config, run.plan, run.tokenizer)
    before, after = evaluation_losses(trainer)
    steps = trainer.state.global_step
    figures = {"steps": steps, "evaluation loss before": before, "evaluation loss": after}
    with saying_what_stays(folder), doing("saving the trained model"):
        saved = save_run(ModelSaver(run.config, trainer, run.tokenizer, plan), figures)
    result = RunResult(
        output_dir=folder,
        saved=saved,
        steps=steps,
        train_loss=train_loss,
        eval_loss_before=before,
        eval_loss=after,
        seconds=time.perf_counter() - started,
        resumed_from=run.checkpoint,
    )
    if is_main_process():
        record_end(run, plan, result, metrics)
    return result


def take_steps(run: AssembledRun) -> tuple[float | None, dict[str, Any] | None]:
    """Train. Returns the mean loss per step and the Trainer's metrics; None and None where no step was left."""
    checkpoint, trainer = run.checkpoint, run.trainer
    if checkpoint is not None and is_last(checkpoint, run.config, run.plan):
        announce(f"nothing left to train: {checkpoint} is what training ended with")
        trainer.restore(checkpoint)
        trainer.catch_up()
        return None, None
    if checkpoint is not None:
        announce(f"resuming from {checkpoint}")
    with while_it_streams(run.plan.data), SCREEN.as_before():
        _, loss, metrics = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return loss, metrics


def evaluation_losses(trainer: RunTrainer) -> tuple[float | None, float | None]:
    """Evaluation loss at step 0 and of the model as it is now, evaluating once more if that one was not measured."""
    if trainer.eval_dataset is None or trainer.args.eval_strategy == "no":
        return None, None
    losses = {entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}
    state, step = trainer.state, trainer.state.global_step
    if trainer.args.load_best_model_at_end and state.best_model_checkpoint is not None:
        step = state.best_global_step
    if step not in losses:
        losses[step] = trainer.evaluate()["eval_loss"]
    return losses.get(0), losses[step]
