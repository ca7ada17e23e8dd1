"""Fields of transformers.TrainingArguments that do not simply pass through: sft decides them, or bounds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft.config.option import Option

DECIDED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "remove_unused_columns": ((False,), "batches hold exactly what the model and the loss need"),
    "label_smoothing_factor": ((0,), "the loss is computed by sft, exactly and without smoothing"),
    "auto_find_batch_size": ((False,), "the largest batch runs first, so memory runs out in the first step or never"),
    "average_tokens_across_devices": ((True,), "the loss is always divided by the trained tokens of all devices"),
    "prediction_loss_only": ((True,), "evaluation keeps the loss only, never the logits"),
    "include_for_metrics": (([],), "evaluation keeps the loss only, never the logits"),
    "batch_eval_metrics": ((False,), "evaluation keeps the loss only, never the logits"),
    "eval_do_concat_batches": ((True,), "evaluation keeps the loss only, never the logits"),
    "label_names": ((None, ["labels"]), "labels are made by sft"),
    "length_column_name": (("length",), "lengths are known from the prepared data"),
    "ignore_data_skip": ((False,), "a resumed run always goes on with the next example"),
    "do_train": ((True,), "sft train trains; for all of it except training there is sft plan"),
    "do_predict": ((False,), "sft train does not predict"),
    "metric_for_best_model": ((None, "loss", "eval_loss"), "the best checkpoint is the one of the lowest eval loss"),
    "greater_is_better": ((None, False), "the best checkpoint is the one of the lowest evaluation loss"),
}
"""The values that ask for what is done anyway (they are dropped with a note), and why there is no other."""

REFUSED: Mapping[str, str] = {
    "hub_token": "a token in the configuration would be written into run.json; log in with `hf auth login` or set "
    "the environment variable HF_TOKEN",
    "parallelism_config": "it takes a Python object; set up parallelism with `accelerate config`",
}
"""Fields that cannot be given at all, and what to do instead."""

IGNORED: Mapping[str, str] = {
    "local_rank": "the launcher's environment variable LOCAL_RANK says it",
}
"""Fields that launchers add to the command line and nobody needs."""

BOUNDED: Mapping[str, Option] = {
    "adam_beta1": Option(help="", minimum=0, maximum=0.999999),
    "adam_beta2": Option(help="", minimum=0, maximum=0.999999),
    "adam_epsilon": Option(help="", above=0),
    "data_seed": Option(help="", minimum=0, maximum=2**32 - 1),
    "dataloader_prefetch_factor": Option(help="", minimum=1),
    "eval_accumulation_steps": Option(help="", minimum=1),
    "eval_delay": Option(help="", minimum=0),
    "log_level": Option(help="", choices=("debug", "info", "warning", "error", "critical", "passive")),
    "log_level_replica": Option(help="", choices=("debug", "info", "warning", "error", "critical", "passive")),
    "neftune_noise_alpha": Option(help="", minimum=0),
    "torch_empty_cache_steps": Option(help="", minimum=1),
}
"""Ranges of fields that pass through. transformers finds some of these faults late and some never."""
