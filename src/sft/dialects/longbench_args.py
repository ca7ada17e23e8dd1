"""The command line of LongBench's ``train.py``: LoRA on LongBench's subsets, evaluated by generation while training.

Six of its names are not ours; every option of ours works there too. Where the original spoiled its own measurements
(masks, cuts, formats and limits that disagreed), the walk does it right and a note says what differs.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from sft.config.values import RawValue
from sft.dialects.translation import Draft, Translation, Values, is_true

NAME = "longbench_args"
DEEPSPEED_VARIABLE = "DEEPSPEED_CONFIG"

NAMES = {
    "model_name": "model_name_or_path",
    "num_epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "train_datasets": "train_tasks",
}
SUBSETS = {"trivia_qa": "triviaqa"}
"""Names of subsets in commands of the original, where LongBench writes them otherwise."""

NO_SUBSETS = ("flan_v2", "squad_v2", "no_hallucination", "boolq")
"""Sets from the hub that the original mixed in under names of its own; no task here."""

ARGUMENTS: dict[str, Any] = {
    "num_train_epochs": 3,
    "max_steps": -1,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 8,
    "learning_rate": 5e-6,
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
    "seed": 42,
    "eval_steps": 500,
    "save_steps": 500,
    "logging_steps": 10,
    "output_dir": "./training_output",
}
LORA: dict[str, Any] = {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05}
"""Defaults of its arguments. Those with a reason of their own are in MENDED and the functions below."""

SETTINGS: dict[str, Any] = {
    "lr_scheduler_type": "cosine",
    "optim": "adamw_torch",
    "gradient_checkpointing": True,
    "max_grad_norm": 1.0,
    "save_total_limit": 3,
    "report_to": "none",
    "model_dir": "final_model",
}
"""What the original fixes without an argument."""

MENDED: dict[str, tuple[Any, str]] = {
    "max_length": (4096, "longer prompts lose their middle, as LongBench's own do, and answers stay whole"),
    "overlong": ("drop", "no answer is cut; the original cut rows from the left, with masks of uncut ones"),
    "train_on": ("answers", "each answer and its end token; the original's mask left the chat template out of account"),
    "resume_from_checkpoint": ("auto", "a run started again in its output_dir goes on; none starts anew"),
    "eval_tasks": (
        ["qmsum", "truthfulqa"],
        "asked in the form they are trained in and with their own answer limits, the untrained model first; the "
        "original asked in another form and stopped at 128 tokens",
    ),
    "eval_engine": ("in_process", "the model that is trained answers; the original merged a copy for every evaluation"),
}
"""Defaults that hold for what the original meant, not for what it did."""


def recognises(values: Values) -> bool:
    """Never: this is a command line."""
    return False


def translate(values: Values, overrides: Values) -> Translation:
    """``values``: the command line, by option; ``overrides`` is empty, for nothing comes after it."""
    draft = Draft(NAME, overrides)
    for key, raw in values.items():
        if key == "gpu":
            draft.ignore(key, raw, "no option names devices; train.py sets CUDA_VISIBLE_DEVICES from it, as you can")
        elif key == "train_datasets":
            _translate_subsets(draft, key, raw)
        else:
            draft.take(key, raw, NAMES)
    if "model_name_or_path" not in (*draft.values, *overrides):
        draft.refuse(
            "model_name", "is missing; give a folder, or a name on the hub such as Qwen/Qwen3-0.6B", "--model_name"
        )
    _apply_defaults(draft)
    return draft.finish()


def _translate_subsets(draft: Draft, key: str, raw: RawValue) -> None:
    """Names with commas between them, as LongBench writes them."""
    words = [] if raw.value is True else raw.value if isinstance(raw.value, list) else str(raw.value).split(",")
    given = [str(word).strip() for word in words if str(word).strip()]
    if not given:
        draft.refuse(key, "names no subset; write all, or names with commas between them: qmsum,hotpotqa", raw.origin)
        return
    for name in given:
        if name in NO_SUBSETS:
            reason = (
                f"{name} is no subset of LongBench: the original mixed it in from the hub; give such rows as data of "
                f"your own, --data_path NAME_OR_FILE, which are trained beside --{key}"
            )
            draft.refuse(key, reason, raw.origin)
    renamed = [f"{name} is {SUBSETS[name]}" for name in given if name in SUBSETS]
    names = list(dict.fromkeys(SUBSETS.get(name, name) for name in given))
    draft.give(key, replace(raw, value=names), NAMES[key], ", ".join(renamed))


def _apply_defaults(draft: Draft) -> None:
    _default_subsets(draft)
    _default_adapter(draft)
    _default_precision(draft)
    _default_scorer(draft)
    _default_deepspeed(draft)
    for target, (value, reason) in MENDED.items():
        draft.default(target, value, reason)
    for target, value in ARGUMENTS.items():
        draft.default(target, value)
    for target, value in SETTINGS.items():
        draft.default(target, value)


def _default_subsets(draft: Draft) -> None:
    if "data_path" not in draft.values:
        draft.default(
            "train_tasks", ["all"], "the 21 subsets with every row; the original knew 14 and took 1300 of each"
        )


def _default_adapter(draft: Draft) -> None:
    draft.default("use_lora", True)
    if is_true(draft.values["use_lora"]):
        for target, value in LORA.items():
            draft.default(target, value)
        draft.default("target_modules", None, "train.py's seven layers; in a model without them every linear layer")


def _default_precision(draft: Draft) -> None:
    """The original's bf16 could not be switched off, and --fp16 beside it was refused."""
    if is_true(draft.values.get("fp16")):
        draft.default("bf16", False, "fp16 takes its place")
    else:
        draft.default("bf16", True, "on a GPU and on a CPU; --bf16 False switches it off, --fp16 replaces it")


def _default_scorer(draft: Draft) -> None:
    if "bleurt_checkpoint" in draft.values:
        draft.default("truthfulqa_scorer", "bleurt", "there is a checkpoint for it")
    else:
        draft.default(
            "truthfulqa_scorer", "rougeL", "the original scored with BLEURT, which --bleurt_checkpoint NAME does"
        )


def _default_deepspeed(draft: Draft) -> None:
    path = os.environ.get(DEEPSPEED_VARIABLE)
    if not path or "deepspeed" in draft.values:
        return
    if os.path.isfile(os.path.expanduser(path)):
        draft.default("deepspeed", os.path.expanduser(path), f"the environment variable {DEEPSPEED_VARIABLE} names it")
    else:
        draft.refuse(DEEPSPEED_VARIABLE, f"{path!r} is no file. Name a DeepSpeed configuration, or unset the variable")
