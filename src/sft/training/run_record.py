"""What a run writes and says of itself when it begins and when it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from sft.config import SFTConfig
from sft.models.adapters import count_parameters
from sft.models.families import missing_kernels
from sft.training.also_write import write_arguments, write_at_the_end
from sft.training.assembled import AssembledRun, RunResult, is_last
from sft.training.base import RunTrainer
from sft.training.build import kernels_of
from sft.training.checkpoints.changes import read_identity, refuse_changed_run
from sft.training.checkpoints.keeper import CheckpointKeeper
from sft.training.checkpoints.layout import step_of
from sft.training.checkpoints.space import num_saves, require_space
from sft.training.data_summary import keep_summary
from sft.training.launch import announce, is_main_process
from sft.training.method import describe_method
from sft.training.parallel import refuse_other_shards
from sft.training.peers import told_by_first
from sft.training.plan import Plan
from sft.training.plan_text import describe_plan
from sft.training.record import describe_run, read_record, write_record
from sft.training.report_page import leave_page
from sft.training.run_log import end_log, keep_log
from sft.training.starts import describe_command, starts_of
from sft.training.strategy import AskedStrategy
from sft.training.strategy_in_force import StrategyInForce, describe_strategy
from sft.training.upload import upload


def record_beginning(run: AssembledRun, strategy: AskedStrategy) -> None:
    """Write and say what is about to run.

    Raises:
        ConfigError: the checkpoint is of a run that was not this one.
    """
    config, folder = run.config, Path(run.config.output_dir)
    record = describe_run(config, run.plan, run.model, kernels=kernels_of(config, run.model).to_dict())
    record["memory"] = None if run.fit is None else run.fit.to_dict()
    record["fingerprints"] = json.loads(told_by_first(json.dumps(record["fingerprints"])))
    step = 0 if run.checkpoint is None else step_of(run.checkpoint)
    record["command"], record["starts"] = describe_command(), starts_of(read_record(folder), step)
    if run.checkpoint is not None:
        before = read_identity(run.checkpoint)
        changes = refuse_changed_run(
            before["fingerprints"], record["fingerprints"], run.checkpoint, allowed=config.allow_change
        )
        refuse_other_shards(before, strategy, run.checkpoint)
        record["allowed_changes"] = [*before["allowed_changes"], *changes]
    run.trainer.keeper = make_keeper(config, run.trainer, record)
    if is_main_process() and not is_last(run.checkpoint, run.config, run.plan):
        saves = num_saves(run.trainer.args, run.plan.steps, run.plan.steps_per_epoch)
        require_space(config, run.model, num_saves=saves)
    if is_main_process():
        write_record(folder, record)
        keep_summary(config, run.plan, run.tokenizer)
        if "arguments" in config.also_write:
            write_arguments(config)
        if "log" in config.also_write:
            keep_log(folder, config.notes)
    announce(f"plan\n{describe_plan(run.plan)}")
    announce(describe_model(run.model, config))


def record_end(run: AssembledRun, plan: Plan, result: RunResult, metrics: dict[str, Any] | None) -> None:
    """Write what a run came to: its record, its page, the files that were asked for, and the upload.

    Args:
        plan: as it is now; of streamed data the beginning knew the first window only.
        metrics: the Trainer's own, at the end of training; None where no step was left.
    """
    folder, resumed = result.output_dir, result.resumed_from is not None
    counted = {} if plan.stream is None else {"plan": plan.to_dict()}
    write_record(folder, {**(read_record(folder) or {}), **counted, "result": result.to_dict()})
    if plan.stream is not None:
        keep_summary(run.config, plan, run.tokenizer)
    write_at_the_end(run.config, run.trainer.state, metrics=metrics, eval_loss=result.eval_loss, resumed=resumed)
    if run.config.report_page:
        leave_page(folder)
    upload(run.config, result.saved)
    end_log()


def note_strategy(trainer: RunTrainer, folder: Path, running: StrategyInForce) -> None:
    """Say what runs, and keep it in the record and in checkpoints."""
    announce(describe_strategy(running))
    trainer.keeper.identity["processes"] = running.to_dict()
    if is_main_process():
        write_record(folder, {**(read_record(folder) or {}), "processes": running.to_dict()})


def make_keeper(config: SFTConfig, trainer: RunTrainer, record: dict[str, Any]) -> CheckpointKeeper:
    """What writes the checkpoints of this run, and what they tell of it."""
    return CheckpointKeeper(
        Path(config.output_dir),
        trainer.args.save_total_limit,
        stop_on_failure=config.on_failed_save == "stop",
        background=config.save_in_background,
        identity={
            "fingerprints": record["fingerprints"],
            "processes": None,  # known when they run
            "allowed_changes": record["allowed_changes"],
        },
    )


def describe_model(model: PreTrainedModel, config: SFTConfig) -> str:
    """One line: what is trained of what."""
    trainable, total = count_parameters(model)
    share = f"{trainable:,} of {total:,} weights trained ({trainable / total:.2%})"
    slow = missing_kernels(model.config)
    return f"model\n  {config.model_name_or_path}: {describe_method(config)}, {share}" + (f"\n  {slow}" if slow else "")
