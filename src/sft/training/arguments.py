"""SFTConfig -> transformers.TrainingArguments. Creating them starts the process group, so this comes after the data."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations.integration_utils import get_available_reporting_integrations
from transformers.utils import is_torch_tf32_available

from sft.config import SFTConfig
from sft.errors import ConfigError
from sft.trackers.several import KNOWN
from sft.training.dpo_run import arguments_of_stage

NO_TRACKER = ("none", "")

OUR_LOSS = {"cross_entropy": False, "fused_linear_cross_entropy": False}
"""What of Liger is left out: the loss is made by the trainer, and these would make it once more."""


def training_arguments(
    config: SFTConfig,
    *,
    has_eval: bool,
    resuming: bool,
    deepspeed: dict[str, Any] | None = None,
    shared_by_library: bool = False,
) -> TrainingArguments:
    """The arguments of a config: ours under the same names, the passed-through ones, and what our walk decides.

    Args:
        has_eval: there are evaluation rows.
        resuming: the run goes on from a checkpoint, so the untrained model was already evaluated.
        deepspeed: settings that stand for the file or the dictionary of the config.
        shared_by_library: transformers parts the weights while it loads them, so that accelerate must not.
    """
    kind, of_stage = arguments_of_stage(config)
    known = {field.name for field in fields(TrainingArguments)}
    values: dict[str, Any] = {name: value for name, value in config.to_dict().items() if name in known}
    evaluating = has_eval and config.do_eval
    values.update(
        report_to=foreign_trackers(config.report_to),
        resume_from_checkpoint=None,  # handed to train()
        eval_strategy=config.eval_strategy if evaluating else "no",
        eval_on_start=evaluating and config.eval_strategy != "no" and not resuming,
        load_best_model_at_end=config.load_best_model_at_end and evaluating,
        metric_for_best_model="eval_loss" if evaluating else None,
        greater_is_better=False if evaluating else None,
        remove_unused_columns=False,  # our rows have no columns
        label_names=["labels"],
        disable_tqdm=True,  # our own bar speaks
        logging_nan_inf_filter=False,  # a loss that is not a number is never shown as one
        use_cpu=not torch.accelerator.is_available(),
    )
    if torch.cuda.is_available():
        values["accelerator_config"] = {"non_blocking": True}  # batches lie in pinned memory
    if config.tokens_per_batch is not None:
        values["per_device_train_batch_size"] = 1  # an item of the data is then a whole batch
    if config.lisa_layers is not None:
        values["ddp_find_unused_parameters"] = True  # frozen layers get no gradient, which DDP would wait for
    values.update(config.training_arguments)
    if shared_by_library:
        values.update(fsdp=None, fsdp_config=None)
    if values.get("use_liger_kernel"):
        values["liger_kernel_config"] = {**(values.get("liger_kernel_config") or {}), **OUR_LOSS}
    if values.get("tf32") and not is_torch_tf32_available():
        values["tf32"] = None  # it lets float32 products be coarser, which this machine cannot do
    if deepspeed is not None:
        values["deepspeed"] = deepspeed
    asked = config.training_arguments.get("gradient_checkpointing_kwargs")
    values.update(checkpointing(config.gradient_checkpointing, asked, known))
    arguments = kind(**values, **of_stage)
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # one process drives one GPU; several are driven by a launcher
    return arguments


def require_trackers(config: SFTConfig) -> None:
    """Refuse trackers whose package is not installed, before anything is prepared.

    Raises:
        ConfigError: naming the first of them.
    """
    missing = [
        name for name in trackers(config.report_to) if name not in (*get_available_reporting_integrations(), "all")
    ]
    if missing:
        raise ConfigError(
            f"report_to = {missing[0]}: its package is not installed here, so that nothing could be logged to it. "
            f"Install it (pip install {missing[0].removesuffix('_ml')}), or leave it out: metrics.jsonl in output_dir "
            "holds every metric."
        )


def trackers(report_to: str | list[str] | None) -> list[str]:
    """['tensorboard'] and the like; empty for none."""
    names = [report_to] if isinstance(report_to, str) else list(report_to or [])
    return [name for name in names if name not in NO_TRACKER]


def our_trackers(report_to: str | list[str] | None) -> list[str]:
    """Those that ``sft.trackers`` tells of the run."""
    return [name for name in _expanded(report_to) if name in KNOWN]


def foreign_trackers(report_to: str | list[str] | None) -> list[str]:
    """Those that transformers tells of the run."""
    return [name for name in _expanded(report_to) if name not in KNOWN]


def _expanded(report_to: str | list[str] | None) -> list[str]:
    asked = trackers(report_to)
    return list(get_available_reporting_integrations()) if "all" in asked else asked


def checkpointing(enabled: bool, kwargs: Any, known: set[str]) -> dict[str, Any]:
    """Recompute activations, under the name that the installed transformers has for it.

    ``kwargs`` is what the user asked for; by default without re-entrance.
    """
    name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    gone = dict.fromkeys(("gradient_checkpointing", "gradient_checkpointing_kwargs"))
    return {**gone, name: enabled, f"{name}_kwargs": (kwargs or {"use_reentrant": False}) if enabled else None}
