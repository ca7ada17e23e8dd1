"""LLaMA-Factory: a flat YAML or JSON file, or the same keys as a command line, for stages sft, pt and dpo.

Every key of its four argument classes is known by name. Where the original spoiled its own training (a prompt that
loses its question, plain packing whose rows see each other), ours does it right and the note says so.
"""

from __future__ import annotations

from sft.config.catalog import OPTIONS
from sft.config.renamed import RENAMED
from sft.config.suggestions import nearest
from sft.config.training_arguments import installed_fields
from sft.config.values import RawValue
from sft.data.templates import read_template, template_names
from sft.dialects import llama_factory_keys as keys
from sft.dialects.llama_factory_rules import HANDLERS
from sft.dialects.llama_factory_values import method_of, number, stage_of
from sft.dialects.translation import EMPTY, OFF, Draft, Translation, Values, is_true

NAME = "llama_factory"
TAKES_PAIRS = True
"""Words such as ``lora_rank=16`` after the file replace its keys."""

TELLING = (
    "cutoff_len", "dataset", "dataset_dir", "finetuning_type", "lora_rank", "lora_target", "plot_loss",
    "preprocessing_num_workers", "quantization_bit", "template", "val_size", "freeze_trainable_layers",
)  # fmt: skip
"""Keys that no other tool has. ``stage`` is not among them: it is an option of ours, too."""

V1 = ("train_dataset", "peft_config", "dist_config", "kernel_config", "model_class")


ALL_KEYS = (
    *keys.NAMES, *HANDLERS, *keys.SWITCHES, *keys.REFUSED, *keys.ALLOWED_VALUES, *keys.IGNORED, "model_name_or_path",
    "output_dir", "learning_rate", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps",
    "lr_scheduler_type", "warmup_ratio", "trust_remote_code", "overwrite_cache", "use_rslora", "use_dora",
)  # fmt: skip
"""What a misspelt key is compared with."""


def recognises(values: Values) -> bool:
    """Whether the keys are LLaMA-Factory's: finetuning_type, or two that tell beside the model's name."""
    told = sum(key in values for key in TELLING)
    return "finetuning_type" in values or ("model_name_or_path" in values and told >= 2) or _is_v1(values)


def translate(values: Values, overrides: Values) -> Translation:
    """``values``: the file, or the command line by option; ``overrides``: our options after the file."""
    draft = Draft(NAME, overrides)
    if _is_v1(values):
        return _refuse_v1(draft, values)
    for key, raw in values.items():
        _settle(draft, key, raw, values)
    _apply_defaults(draft, values)
    return draft.finish()


def _is_v1(values: Values) -> bool:
    return "model" in values and isinstance(values["model"].value, str) and sum(key in values for key in V1) >= 2


def _refuse_v1(draft: Draft, values: Values) -> Translation:
    for key, raw in values.items():
        if key == "model":
            draft.refuse(
                key,
                "this is a configuration of LLaMA-Factory v1, which is not read. Write it with the keys of v0 "
                "(model_name_or_path, finetuning_type, dataset, template, ...), or in our own words",
                raw.origin,
            )
        else:
            draft.ignore(key, raw, "part of a v1 configuration")
    return draft.finish()


def _settle(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    """One note for one key, by the first table that knows it."""
    family = next((name for name in keys.FAMILIES if key.startswith(name)), None)
    prefix = next((name for name in keys.PREFIXES if key.startswith(name)), None)
    if raw.value is None or raw.value == "":
        draft.ignore(key, raw, EMPTY)
    elif key in HANDLERS:
        HANDLERS[key](draft, key, raw, values)
    elif key in keys.SWITCHES:
        _switch(draft, key, raw)
    elif key in keys.REFUSED:
        draft.refuse(key, keys.REFUSED[key], raw.origin)
    elif key in keys.MEGATRON:
        draft.refuse(key, "a setting of Megatron, which is not used here. Use deepspeed or fsdp", raw.origin)
    elif key in keys.ALLOWED_VALUES:
        _allowed(draft, key, raw)
    elif key in keys.IGNORED:
        draft.ignore(key, raw, keys.IGNORED[key])
    elif family is not None:
        draft.ignore(key, raw, f"part of {keys.FAMILIES[family]}, which is not here")
    elif prefix is not None:
        draft.ignore(key, raw, keys.PREFIXES[prefix])
    elif key in keys.NAMES or is_known(key):
        draft.take(key, raw, keys.NAMES)
    else:
        near = nearest(key, ALL_KEYS) or nearest(key, OPTIONS)
        hint = f"Did you mean {near}?" if near else "`sft train --help` lists our options, which may stand here too."
        draft.refuse(key, f"there is no such key. {hint}", raw.origin)


def is_known(key: str) -> bool:
    """Whether the name is ours, transformers', or was."""
    return key in OPTIONS or key in installed_fields() or key in RENAMED


def _switch(draft: Draft, key: str, raw: RawValue) -> None:
    if is_true(raw):
        draft.refuse(key, f"{keys.SWITCHES[key]}. Leave {key} out", raw.origin)
    else:
        draft.ignore(key, raw, OFF)


def _allowed(draft: Draft, key: str, raw: RawValue) -> None:
    allowed, why = keys.ALLOWED_VALUES[key]
    word = str(raw.value).lower()
    if word in map(str, allowed) or number(raw.value) in allowed:
        draft.ignore(key, raw, OFF)
    else:
        draft.refuse(key, f"{raw.value!r}: {why}", raw.origin)


def _apply_defaults(draft: Draft, values: Values) -> None:
    for target, (value, reason) in keys.DEFAULTS.items():
        draft.default(target, value, reason)
    for key in ("model_name_or_path", "dataset"):
        target = "data_path" if key == "dataset" else key
        if key not in values and target not in (*draft.values, *draft.overrides):
            draft.refuse(key, f"is missing; write it, or give --{target}")
    _default_method(draft, values)
    if stage_of(values) != "pt":
        for target, (value, reason) in keys.TEXT_DEFAULTS.items():
            draft.default(target, value, reason)
        _default_thoughts(draft)
    draft.default("also_write", keys.FILES, "beside the model, as the original writes them")
    _default_evaluation(draft, values)


def _default_method(draft: Draft, values: Values) -> None:
    method = method_of(values)
    draft.default("use_lora", True, "finetuning_type is lora unasked")
    if method == "lora":
        for target, (value, reason) in keys.LORA_DEFAULTS.items():
            draft.default(target, value, reason)
        rank = number(draft.values["lora_r"].value) if "lora_r" in draft.values else None
        if rank is not None:
            draft.default("lora_alpha", 2 * int(rank), "twice lora_rank")
    if method == "freeze":
        draft.default("trainable_layers", 2, "the last two layers")


def _default_thoughts(draft: Draft) -> None:
    """Only where the template has thoughts and nothing is said: then the data decides, which is worth a word."""
    template = draft.values.get("chat_template")
    name = None if template is None else str(template.value)
    if name in template_names() and "enable_thinking" in read_template(name):
        draft.default(
            "chat_template_kwargs",
            {},
            "where no answer holds a thought, the empty one stands in the prompt; the original trains it as part of "
            "the answer, and so does enable_thinking: true",
        )


def _default_evaluation(draft: Draft, values: Values) -> None:
    if not any(name in draft.values for name in ("validation_size", "eval_data_path")):
        return
    if is_true(values.get("do_eval")):
        draft.default("eval_strategy", "epoch", "do_eval without eval_strategy")
    else:
        draft.default("eval_strategy", "no", "as the original without eval_strategy and do_eval")
