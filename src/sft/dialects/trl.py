"""TRL's SFT configurations: ``trl sft --config X.yaml``, its command line, and the recipes written for it.

The recipes (alignment-handbook, open-r1) are older than today's TRL: names of transformers that have changed since are
understood as everywhere, mixtures of data sets are their own (``trl_data.py``). Defaults are those of TRL 1.16.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sft.config.values import RawValue
from sft.dialects.translation import CAUSAL_ONLY, Draft, Settle, Translation, Values, is_true
from sft.dialects.trl_data import MIXTURES, SINGLE, translate_data

NAME = "trl"

NAMES = {
    "use_peft": "use_lora",
    "lora_target_modules": "target_modules",
    "lora_modules_to_save": "modules_to_save",
    "use_bnb_nested_quant": "bnb_4bit_use_double_quant",
    "activation_offloading": "offload_activations",
}
LISTS = ("lora_target_modules", "lora_modules_to_save", "lora_target_parameters")
"""Options that take several words on a command line."""

NOT_USED = {
    "dataset_num_proc": "data is prepared once, before training, and kept",
    "preprocessing_num_workers": "data is prepared once, before training, and kept",
    "shuffle_dataset": "rows are shuffled by seed in every epoch",
    "remove_unused_columns": "batches hold exactly what the model and the loss need",
    "use_liger_kernel": "the loss makes logits only where a token is trained, which is what Liger saves most by; its "
    "other kernels change speed, not results",
    "padding_free": "the result is the same without; packing: true leaves no padding either",
    "packing_strategy": "whole examples share a row, best fit first, isolated from each other; none is split",
    "eval_packing": "the evaluation loss is per trained token, packed or not",
    "pad_to_multiple_of": "padding is known by position and changes nothing",
    "pad_token": "padding is known by position and changes nothing",
    "ignore_bias_buffers": "there are no such buffers in the models of today",
    "average_tokens_across_devices": "the loss is always divided by the trained tokens of all devices",
}
REFUSED = {
    "dataset_streaming": "rows are prepared before training, not streamed. Take it out",
    "streaming": "rows are prepared before training, not streamed. Take it out",
    "router_aux_loss_coef": "the loss is that of the trained tokens alone. Take it out, or set it in the model's "
    "config.json",
    "bnb_4bit_quant_storage": "quantised weights are stored as bytes. Take it out",
    "accelerate_config": "processes are started from outside. Write: accelerate launch --config_file X -m sft "
    "train FILE",
    "num_processes": "processes are started from outside. Write: torchrun --nproc_per_node N -m sft train FILE",
    "config": "name the file by itself: sft train FILE --key value",
    "env": "a configuration sets no environment variables; set them before the command",
}
"""Where the value asks for something; false and empty values are passed over."""

DEFAULTS: dict[str, Any] = {
    "learning_rate": 2e-5,
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": True,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "max_length": 1024,
    "save_total_limit": None,
    "output_dir": "trainer_output",
}
LORA_DEFAULTS: dict[str, Any] = {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05}
MODEL_KWARGS = {
    "attn_implementation": "attn_implementation",
    "dtype": "dtype",
    "torch_dtype": "dtype",
    "revision": "model_revision",
    "trust_remote_code": "trust_remote_code",
}
TRUNCATION = {"keep_start": "cut_end", "keep_end": "cut_start"}
DATA_KEYS = (*SINGLE, *MIXTURES, "dataset_configs", "dataset_splits", "test_split_size")


def recognises(values: Values) -> bool:
    """Whether the data is named as TRL and its recipes name it, and the model as no other tool's file does."""
    named = any(key in values for key in ("dataset_name", "dataset_mixture", "dataset_mixer"))
    listed = "datasets" in values and "model_name_or_path" in values
    return (named or listed) and not any(key in values for key in ("base_model", "finetuning_type", "train_file"))


def translate(values: Values, overrides: Values) -> Translation:
    """``values``: the file as read; ``overrides``: our options on the command line, which win over the file."""
    draft = Draft(NAME, overrides)
    given = draft.given(values)
    adapts = is_true(overrides.get("use_lora") or given.get("use_peft") or given.get("use_lora"))
    translate_data(draft, given, evaluates=_evaluates(given, overrides))
    for key, raw in given.items():
        if key not in DATA_KEYS:
            _translate_key(draft, key, raw, adapts=adapts)
    _require(draft, values)
    _apply_defaults(draft, adapts=adapts)
    return draft.finish()


def _translate_key(draft: Draft, key: str, raw: RawValue, *, adapts: bool) -> None:
    if key in NOT_USED:
        draft.ignore(key, raw, NOT_USED[key])
    elif key in REFUSED:
        draft.refuse_if_asked(key, raw, REFUSED[key])
    elif key in SPECIAL:
        SPECIAL[key](draft, key, raw)
    elif (key.startswith("lora_") or key in ("use_rslora", "use_dora")) and not adapts:
        draft.ignore(key, raw, "use_peft is false: every weight is trained")
    else:
        draft.take(key, raw, NAMES)


def _translate_mask(draft: Draft, key: str, raw: RawValue) -> None:
    """Either of the two makes answers the trained part; a plain false is a wish to train everything."""
    wanted = "answers" if is_true(raw) else "everything"
    if "train_on" not in draft.values:
        draft.give(key, replace(raw, value=wanted), "train_on")
    elif "answers" in (wanted, draft.values["train_on"].value):
        draft.values["train_on"] = replace(draft.values["train_on"], value="answers")
        draft.join(key, raw, "train_on")
    else:
        draft.join(key, raw, "train_on")


def _translate_text_column(draft: Draft, key: str, raw: RawValue) -> None:
    if raw.value == "text":
        draft.ignore(key, raw, "text is the usual name")
    else:
        draft.give(key, replace(raw, value={"text": raw.value}), "columns")


def _translate_end_token(draft: Draft, key: str, raw: RawValue) -> None:
    draft.give(key, replace(raw, value={"eos_token": raw.value}), "special_tokens")


def _translate_template_path(draft: Draft, key: str, raw: RawValue) -> None:
    """A Jinja file, or a tokenizer whose template is meant."""
    path = str(raw.value)
    inside = os.path.join(os.path.expanduser(path), "chat_template.jinja")
    if path.endswith((".jinja", ".jinja2", ".j2")):
        draft.give(key, raw, "chat_template")
    elif os.path.isfile(inside):
        draft.give(key, replace(raw, value=inside), "chat_template")
    else:
        draft.refuse(
            key, f"{path!r} holds no chat_template.jinja here. Download that tokenizer's and name the file", raw.origin
        )


def _translate_truncation(draft: Draft, key: str, raw: RawValue) -> None:
    if str(raw.value) in TRUNCATION:
        draft.give(
            key, replace(raw, value=TRUNCATION[str(raw.value)]), "overlong", "by whole turns, ends of answers stay"
        )
    else:
        draft.refuse(key, f"{raw.value!r} is none of {', '.join(TRUNCATION)}", raw.origin)


def _translate_loss(draft: Draft, key: str, raw: RawValue) -> None:
    if raw.value in ("nll", "chunked_nll"):
        draft.ignore(key, raw, "the loss is the negative log-likelihood of the trained tokens")
    else:
        draft.refuse(key, f"{raw.value!r} is another objective. Only nll is trained here; take it out", raw.origin)


def _translate_dataset_kwargs(draft: Draft, key: str, raw: RawValue) -> None:
    for name, entry in draft.entries(key, raw).items():
        if name == "skip_prepare_dataset":
            draft.refuse_if_asked(f"{key}.{name}", entry, "rows are always prepared here. Take it out")
        elif name in ("add_special_tokens", "append_concat_token"):
            draft.ignore(f"{key}.{name}", entry, "the chat template writes the special tokens, once")
        else:
            draft.refuse(f"{key}.{name}", "TRL has no such key; take it out", entry.origin)


def _translate_model_kwargs(draft: Draft, key: str, raw: RawValue) -> None:
    for name, entry in draft.entries(key, raw).items():
        if name in MODEL_KWARGS:
            draft.give(f"{key}.{name}", entry, MODEL_KWARGS[name])
        elif name == "use_cache":
            draft.ignore(f"{key}.{name}", entry, "there is nothing to cache while training")
        else:
            known = ", ".join([*MODEL_KWARGS, "use_cache"])
            draft.refuse(f"{key}.{name}", f"cannot be handed to the model. Known are {known}", entry.origin)


def _translate_task_type(draft: Draft, key: str, raw: RawValue) -> None:
    if raw.value == "CAUSAL_LM":
        draft.ignore(key, raw, CAUSAL_ONLY)
    else:
        draft.refuse(key, f"{raw.value!r} cannot be trained here; write CAUSAL_LM or take it out", raw.origin)


def _translate_targets(draft: Draft, key: str, raw: RawValue) -> None:
    """One word in a list is that word: TRL takes it for a pattern, or for all-linear."""
    single = raw.value[0] if isinstance(raw.value, list) and len(raw.value) == 1 else raw.value
    draft.give(key, replace(raw, value=single if single == "all-linear" else raw.value), "target_modules")


SPECIAL: Mapping[str, Settle] = {
    "assistant_only_loss": _translate_mask,
    "completion_only_loss": _translate_mask,
    "dataset_text_field": _translate_text_column,
    "eos_token": _translate_end_token,
    "chat_template_path": _translate_template_path,
    "truncation_mode": _translate_truncation,
    "loss_type": _translate_loss,
    "dataset_kwargs": _translate_dataset_kwargs,
    "model_init_kwargs": _translate_model_kwargs,
    "lora_task_type": _translate_task_type,
    "lora_target_modules": _translate_targets,
}


def _require(draft: Draft, values: Values) -> None:
    for target, key in (("model_name_or_path", "model_name_or_path"), ("data_path", "dataset_name")):
        refused = any(note.status == "refused" and note.key in DATA_KEYS for note in draft.notes)
        if target not in (*draft.values, *draft.overrides) and not (refused and target == "data_path"):
            draft.refuse(key, f"is missing; write it, or give --{target}")


def _apply_defaults(draft: Draft, *, adapts: bool) -> None:
    for target, value in DEFAULTS.items():
        draft.default(target, value)
    if not is_true(draft.values.get("fp16")):
        draft.default("bf16", True, "as TRL does unless fp16 is set")
    if adapts:
        _apply_adapter_defaults(draft)
    if not any(target in draft.values for target in ("eval_data_path", "validation_size")):
        draft.default("eval_strategy", "no")
    draft.default("overlong", "cut_end", "later turns leave until the rest fits; TRL cuts answers in the middle")
    draft.default(
        "train_on",
        "answers",
        "each answer and the token that ends it. TRL trains whole conversations unless assistant_only_loss is true: "
        "write train_on: everything for that",
    )
    draft.default("model_dir", ".", "the model lies in output_dir itself")


def _apply_adapter_defaults(draft: Draft) -> None:
    for target, value in LORA_DEFAULTS.items():
        draft.default(target, value)
    draft.default(
        "target_modules",
        None,
        "every linear layer of attention and MLP; TRL takes PEFT's choice, often q_proj and v_proj",
    )
    if is_true(draft.values.get("load_in_4bit")):
        draft.default("bnb_4bit_use_double_quant", False)
    elif not is_true(draft.values.get("load_in_8bit")) and "torch_dtype" not in draft.values:
        draft.default("dtype", "float32", "as TRL loads models; dtype: bfloat16 halves the memory of the frozen base")


def _evaluates(values: Values, overrides: Values) -> bool:
    """Whether anything is evaluated, by today's name of the option or its old one."""
    for name in ("eval_strategy", "evaluation_strategy"):
        raw = overrides.get(name, values.get(name))
        if raw is not None:
            return str(raw.value).lower() not in ("no", "false", "none")
    return False
