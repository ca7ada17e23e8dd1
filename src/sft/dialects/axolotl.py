"""axolotl's YAML, for supervised fine-tuning on text. Defaults are those of axolotl 0.18.

Keys that need no thought stand in ``axolotl_keys.py``, the data in ``axolotl_data.py``; the rest is here, by subject.
An empty value is as if the key were not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sft.config.values import FALSE_WORDS, RawValue
from sft.dialects.axolotl_bits import BIT_KEYS, translate_bits
from sft.dialects.axolotl_data import translate_data
from sft.dialects.axolotl_keys import (
    ADAPTER_KEYS,
    ATTENTION,
    ATTENTION_FLAGS,
    DEFAULTS,
    IMPLIED_TRACKERS,
    NAMES,
    NOT_USED,
    NOT_USED_PREFIXES,
    PLUGINS,
    REFUSED,
    TRACKERS,
)
from sft.dialects.axolotl_learning import LEARNING_KEYS, translate_learning
from sft.dialects.axolotl_metrics import METRIC_KEYS, translate_metrics
from sft.dialects.axolotl_schedule import SCHEDULE_KEYS, translate_schedule
from sft.dialects.axolotl_sharding import (
    SHARDING_KEYS,
    SIZES,
    attend_as_context_does,
    recomputes,
    translate_sharding,
    translate_size,
)
from sft.dialects.translation import EMPTY, OFF, Draft, Translation, is_empty, is_true

NAME = "axolotl"

DATA_KEYS = ("datasets", "test_datasets", "val_set_size", "train_on_inputs", "chat_template", "chat_template_jinja")
OLD_PACKING = "max_packed_sequence_len"
PRECISION_KEYS = ("bf16", "fp16", "bfloat16", "float16")
ADAPTERS = {"lora": True, "qlora": True, "none": False}
OVERLONG = {"drop": "drop", "truncate": "cut_end", "raise": "error"}
CHECKPOINTING = {
    "offload": "activations are computed anew; what is kept stays on the device, the result is the same",
    "offload_disk": "activations are computed anew; what is kept stays on the device, the result is the same",
    "unsloth": "activations are computed anew; what is kept stays on the device, the result is the same",
}

Values = Mapping[str, RawValue]


def recognises(values: Values) -> bool:
    """Whether the model is named as axolotl alone names it."""
    return "base_model" in values


def translate(values: Values, overrides: Values) -> Translation:
    """``values``: the file as read; ``overrides``: our options on the command line, which win over the file."""
    draft = Draft(NAME, overrides)
    given = {key: raw for key, raw in values.items() if not is_empty(raw)}
    for key, raw in values.items():
        if key not in given:
            draft.ignore(key, raw, EMPTY)
    adapts = _adapts(given, overrides)
    translate_data(draft, given)
    translate_schedule(draft, given)
    translate_sharding(draft, given)
    translate_metrics(draft, given)
    translate_learning(draft, given)
    _translate_old_packing(draft, given)
    _translate_precision(draft, given, adapts=adapts)
    _translate_trackers(draft, given)
    settled = (*DATA_KEYS, *SCHEDULE_KEYS, *SHARDING_KEYS, *METRIC_KEYS, *LEARNING_KEYS, *PRECISION_KEYS, *TRACKERS)
    settled = (*settled, *BIT_KEYS, OLD_PACKING)
    for key, raw in given.items():
        if key == "gradient_checkpointing" and recomputes(given):
            draft.ignore(key, raw, "activation_checkpointing of fsdp_config does it")
        elif key not in settled:
            _translate_key(draft, key, raw, adapts=adapts)
    translate_bits(draft, given, adapts=adapts)
    attend_as_context_does(draft)
    _require(draft, given)
    _apply_defaults(draft, given, adapts=adapts)
    return draft.finish()


def _translate_key(draft: Draft, key: str, raw: RawValue, *, adapts: bool) -> None:
    prefixed = next((reason for prefix, reason in NOT_USED_PREFIXES.items() if key.startswith(prefix)), None)
    if not adapts and (key.startswith(("lora_", "peft_")) or key in ADAPTER_KEYS):
        draft.ignore(key, raw, "there is no adapter: every weight is trained")
    elif adapts and key == "unfrozen_parameters":
        draft.ignore(key, raw, "an adapter leaves every weight of the model itself frozen")
    elif key in SPECIAL:
        SPECIAL[key](draft, key, raw)
    elif key in REFUSED:
        draft.refuse_if_asked(key, raw, REFUSED[key])
    elif key in SIZES:
        translate_size(draft, key, raw)
    elif key in NOT_USED or prefixed:
        draft.ignore(key, raw, NOT_USED.get(key) or str(prefixed))
    else:
        draft.take(key, raw, NAMES)


# The model and its adapter


def _translate_adapter(draft: Draft, key: str, raw: RawValue) -> None:
    if str(raw.value) in ADAPTERS:
        draft.give(key, replace(raw, value=ADAPTERS[str(raw.value)]), "use_lora")
    else:
        draft.refuse(key, f"{raw.value!r} is not known. Known are lora, qlora, or nothing for all weights", raw.origin)


def _translate_linear_targets(draft: Draft, key: str, raw: RawValue) -> None:
    """Beside names of layers: every linear layer is more than they are."""
    if not is_true(raw):
        draft.ignore(key, raw, "lora_target_modules says which layers")
    elif "target_modules" in draft.values:
        draft.values["target_modules"] = replace(draft.values["target_modules"], value="all-linear")
        draft.join(key, raw, "target_modules", "every linear layer, those of lora_target_modules among them")
    else:
        draft.give(key, replace(raw, value="all-linear"), "target_modules")


def _translate_targets(draft: Draft, key: str, raw: RawValue) -> None:
    if "target_modules" in draft.values:
        draft.join(key, raw, "target_modules", "among every linear layer, as lora_target_linear says")
    else:
        draft.give(key, raw, "target_modules")


def _translate_initial_weights(draft: Draft, key: str, raw: RawValue) -> None:
    value = "default" if is_true(raw) else raw.value
    if value is False:
        draft.refuse(key, "random matrices would change the model before the first step. Write true", raw.origin)
    else:
        draft.give(key, replace(raw, value=value), "init_lora_weights")


def _translate_unfrozen(draft: Draft, key: str, raw: RawValue) -> None:
    """Patterns match from the beginning of a name, and their dots are dots."""
    patterns = [str(pattern) for pattern in (raw.value if isinstance(raw.value, list) else [raw.value])]
    if any(re.search(r"\[\d*:\d*\]$", pattern) for pattern in patterns):
        draft.refuse(key, "single rows of a weight cannot be trained. Use tokens for rows of new tokens", raw.origin)
        return
    anchored = ["^" + pattern.removeprefix("^").replace(".", r"\.") for pattern in patterns]
    draft.give(key, replace(raw, value=anchored), "trainable_modules")


def _translate_quantisation_details(draft: Draft, key: str, raw: RawValue) -> None:
    for name, entry in draft.entries(key, raw).items():
        if name in ("bnb_4bit_quant_type", "bnb_4bit_use_double_quant"):
            draft.give(f"{key}.{name}", entry, name)
        else:
            draft.refuse(f"{key}.{name}", "cannot be chosen. Take it out", entry.origin)


def _translate_saved_quantisation(draft: Draft, key: str, raw: RawValue) -> None:
    if raw.value == "Mxfp4Config":
        draft.ignore(key, raw, "weights in MXFP4 become 16-bit weights when they are loaded to be trained")
    else:
        draft.refuse(key, f"weights of {raw.value} cannot be trained on. Name a model in 16 bits", raw.origin)


def _translate_saved_quantisation_details(draft: Draft, key: str, raw: RawValue) -> None:
    if raw.value == {"dequantize": True}:
        draft.ignore(key, raw, "it is always so")
    else:
        draft.refuse(key, "quantised weights cannot be trained. Write dequantize: true", raw.origin)


def _translate_model_config(draft: Draft, key: str, raw: RawValue) -> None:
    for name, entry in draft.entries(key, raw).items():
        if name == "output_router_logits":
            draft.give(f"{key}.{name}", entry, "router_aux_loss")
        else:
            draft.refuse(f"{key}.{name}", "the model's config.json is not changed. Set it there", entry.origin)


def _translate_attention(draft: Draft, key: str, raw: RawValue) -> None:
    name = str(raw.value)
    kernel, reason = ATTENTION.get(name, (name, ""))
    if kernel in ("sage", "fp8"):
        draft.refuse(key, f"{name} computes attention in 8 bits. Use flash_attention_2 or sdpa", raw.origin)
    else:
        draft.give(key, replace(raw, value=kernel), "attn_implementation", reason)


def _translate_attention_flag(draft: Draft, key: str, raw: RawValue) -> None:
    if is_true(raw):
        _translate_attention(draft, key, replace(raw, value=ATTENTION_FLAGS[key]))
    else:
        draft.ignore(key, raw, OFF)


# Tokens


def _translate_special_tokens(draft: Draft, key: str, raw: RawValue) -> None:
    """Old files write them as ``tokens``, too."""
    parts: dict[str, Any] = {}
    for name, entry in draft.entries(key, raw).items():
        place = f"{key}.{name}"
        if entry.value is None:
            draft.ignore(place, entry, EMPTY)
        elif name == "pad_token":
            draft.ignore(place, entry, "padding is known by position and changes nothing")
        elif name == "additional_special_tokens":
            draft.give(place, entry, "added_special_tokens")
        elif name not in ("bos_token", "eos_token", "unk_token"):
            draft.refuse(place, "there is no such part", entry.origin)
        elif parts or "special_tokens" in draft.values:
            parts[name] = entry.value
            draft.join(place, entry, "special_tokens")
        else:
            parts[name] = entry.value
            draft.give(place, replace(entry, value=parts), "special_tokens")


def _translate_tokens(draft: Draft, key: str, raw: RawValue) -> None:
    if isinstance(raw.value, Mapping):
        _translate_special_tokens(draft, key, raw)
    else:
        draft.give(key, raw, "added_tokens", "their rows are trained")


# Training


def _translate_precision(draft: Draft, values: Values, *, adapts: bool) -> None:
    """fp16 wins over bf16: auto only; a plain bf16 wins over fp16."""
    brain, half = values.get("bf16"), values.get("fp16")
    is_auto = brain is None or brain.value in ("auto", "full")
    asks_brain = not is_true(half) if is_auto else is_true(brain)
    if brain is not None:
        reason = "auto: bfloat16; on a GPU without it, write fp16: true" if brain.value == "auto" else ""
        draft.give("bf16", replace(brain, value=asks_brain), "bf16", reason)
    elif not any(is_true(values.get(name)) for name in ("float16", "bfloat16")):
        draft.default("bf16", asks_brain)
    if half is not None and asks_brain:
        draft.ignore("fp16", half, "bf16 takes its place")
    elif half is not None:
        draft.give("fp16", half, "fp16")
    for key, dtype in (("bfloat16", "bfloat16"), ("float16", "float16")):
        if key in values and not is_true(values[key]):
            draft.ignore(key, values[key], OFF)
        elif key == "float16" and key in values and not adapts:
            _translate_trained_float16(draft, values[key])
        elif key in values:
            draft.give(key, replace(values[key], value=dtype), "dtype", "weights, and no mixed precision over them")
    if asks_brain and not adapts:
        draft.default("dtype", "bfloat16", "as axolotl loads weights that are trained; float32 learns small steps too")


def _translate_trained_float16(draft: Draft, raw: RawValue) -> None:
    reason = "float32 weights, computed in float16: most updates are too small for weights in float16 and would vanish"
    if "fp16" in draft.values:
        draft.values["fp16"] = replace(draft.values["fp16"], value=True)
        draft.join("float16", raw, "fp16", reason)
    else:
        draft.give("float16", replace(raw, value=True), "fp16", reason)


def _translate_checkpointing(draft: Draft, key: str, raw: RawValue) -> None:
    if "gradient_checkpointing" in draft.values:
        draft.join(key, raw, "gradient_checkpointing", "true: in place of activation_offloading")
    elif str(raw.value) in CHECKPOINTING:
        draft.give(key, replace(raw, value=True), "gradient_checkpointing", CHECKPOINTING[str(raw.value)])
    else:
        draft.give(key, raw, "gradient_checkpointing")


def _translate_offloading(draft: Draft, key: str, raw: RawValue) -> None:
    """Another way to need less memory for activations."""
    if str(raw.value).lower() in FALSE_WORDS:
        draft.ignore(key, raw, OFF)
        return
    draft.ignore(key, raw, "activations are computed anew (gradient_checkpointing), not moved; the result is the same")
    draft.values.pop("gradient_checkpointing", None)
    draft.default("gradient_checkpointing", True, "in place of activation_offloading")


def _translate_overlong(draft: Draft, key: str, raw: RawValue) -> None:
    if _pretrains(draft):
        draft.ignore(key, raw, "a long text goes on in the next block")
    elif str(raw.value) in OVERLONG:
        reason = "later turns leave until the rest fits; no answer loses its end" if raw.value == "truncate" else ""
        draft.give(key, replace(raw, value=OVERLONG[str(raw.value)]), "overlong", reason)
    else:
        draft.refuse(key, f"{raw.value!r} is none of {', '.join(OVERLONG)}", raw.origin)


def _translate_eval_length(draft: Draft, key: str, raw: RawValue) -> None:
    draft.refuse(key, "evaluation data has the length of training data. Take it out", raw.origin)


def _translate_packing(draft: Draft, key: str, raw: RawValue) -> None:
    if _pretrains(draft):
        draft.ignore(key, raw, "texts are joined and cut into full blocks")
    else:
        draft.give(key, raw, "packing")
        _stand_in(draft, raw)


def _stand_in(draft: Draft, raw: RawValue) -> None:
    if is_true(raw):
        draft.default("packing_fallback", "by_length", "where packed examples would see each other in this model")


def _translate_old_packing(draft: Draft, values: Values) -> None:
    """max_packed_sequence_len was once the length of packed rows; axolotl now names sample_packing in its place."""
    raw, length = values.get(OLD_PACKING), values.get("sequence_len")
    if raw is None:
        return
    if length is None or str(raw.value) != str(length.value):
        draft.refuse(OLD_PACKING, "packed rows are as long as sequence_len. Use sample_packing: true", raw.origin)
    elif "sample_packing" in values:
        draft.ignore(OLD_PACKING, raw, "sample_packing says it")
    elif not _pretrains(draft):
        draft.give(OLD_PACKING, replace(raw, value=True), "packing", "the old name of sample_packing")
        _stand_in(draft, replace(raw, value=True))


def _pretrains(draft: Draft) -> bool:
    return "stage" in draft.values and draft.values["stage"].value == "pretrain"


def _translate_shuffle(draft: Draft, key: str, raw: RawValue) -> None:
    draft.ignore(key, raw, "curriculum_sampling alone decides whether the order of the data is kept")


def _translate_order(draft: Draft, key: str, raw: RawValue) -> None:
    if is_true(raw):
        reason = "the order of the data, also where several are read one after the other (axolotl shuffles those once)"
        draft.give(key, replace(raw, value="sequential"), "train_sampling_strategy", reason)
    else:
        draft.ignore(key, raw, OFF)


def _translate_order_of_packing(draft: Draft, key: str, raw: RawValue) -> None:
    reason = "rows that are seen in their order are packed in it; where they are shuffled, the fullest rows are made"
    draft.ignore(key, raw, reason)


def _translate_optimizer(draft: Draft, key: str, raw: RawValue) -> None:
    draft.give(key, raw, "optim")


def _translate_optimizer_arguments(draft: Draft, key: str, raw: RawValue) -> None:
    if isinstance(raw.value, Mapping):
        raw = replace(raw, value=",".join(f"{name}={value}" for name, value in raw.value.items()))
    draft.give(key, raw, "optim_args")


def _translate_compile(draft: Draft, key: str, raw: RawValue) -> None:
    draft.give(key, replace(raw, value=True if raw.value == "auto" else raw.value), "torch_compile")


def _translate_resume(draft: Draft, key: str, raw: RawValue) -> None:
    draft.give(key, replace(raw, value="auto" if is_true(raw) else "none"), "resume_from_checkpoint")


def _translate_hub(draft: Draft, key: str, raw: RawValue) -> None:
    draft.give(key, raw, "hub_model_id")
    draft.default("push_to_hub", True, "as axolotl does where hub_model_id is given")
    draft.default("hub_private_repo", True, "as axolotl does where hub_model_id is given")


def _translate_trackers(draft: Draft, values: Values) -> None:
    """Several switches make one list; a project's name is a switch as well."""
    asked = [TRACKERS[key] for key in TRACKERS if key in values and is_true(values[key])]
    off = [TRACKERS[key] for key in TRACKERS if key in values and not is_true(values[key])]
    implied = [tracker for key, tracker in IMPLIED_TRACKERS.items() if key in values and tracker not in off]
    for key in (key for key in TRACKERS if key in values):
        if not is_true(values[key]):
            draft.ignore(key, values[key], OFF)
        elif "report_to" in draft.values:
            draft.join(key, values[key], "report_to")
        else:
            draft.give(key, replace(values[key], value=list(dict.fromkeys([*asked, *implied]))), "report_to")
    if implied and "report_to" not in draft.values:
        draft.default("report_to", list(dict.fromkeys(implied)), "a project of it is named")


def _translate_plugins(draft: Draft, key: str, raw: RawValue) -> None:
    for number, plugin in enumerate(raw.value if isinstance(raw.value, list) else [raw.value], 1):
        name = str(plugin).rpartition(".")[2]
        place = f"{key}[{number}]"
        if name in PLUGINS:
            draft.ignore(place, replace(raw, value=plugin), f"{name}: {PLUGINS[name]}")
        else:
            draft.refuse(place, f"{name}: plugins cannot be loaded, and what this one does is not here", raw.origin)


SPECIAL: Mapping[str, Callable[[Draft, str, RawValue], None]] = {
    "adapter": _translate_adapter,
    "lora_target_linear": _translate_linear_targets,
    "lora_target_modules": _translate_targets,
    "unfrozen_parameters": _translate_unfrozen,
    "peft_init_lora_weights": _translate_initial_weights,
    "bnb_config_kwargs": _translate_quantisation_details,
    "model_quantization_config": _translate_saved_quantisation,
    "model_quantization_config_kwargs": _translate_saved_quantisation_details,
    "model_config": _translate_model_config,
    "attn_implementation": _translate_attention,
    **dict.fromkeys(ATTENTION_FLAGS, _translate_attention_flag),
    "special_tokens": _translate_special_tokens,
    "tokens": _translate_tokens,
    "gradient_checkpointing": _translate_checkpointing,
    "activation_offloading": _translate_offloading,
    "excess_length_strategy": _translate_overlong,
    "eval_sequence_len": _translate_eval_length,
    "sample_packing": _translate_packing,
    "shuffle_merged_datasets": _translate_shuffle,
    "curriculum_sampling": _translate_order,
    "sample_packing_sequentially": _translate_order_of_packing,
    "optimizer": _translate_optimizer,
    "optim_args": _translate_optimizer_arguments,
    "torch_compile": _translate_compile,
    "auto_resume_from_checkpoints": _translate_resume,
    "hub_model_id": _translate_hub,
    "plugins": _translate_plugins,
}


def _adapts(values: Values, overrides: Values) -> bool:
    if "use_lora" in overrides:
        return is_true(overrides["use_lora"])
    return "adapter" in values and ADAPTERS.get(str(values["adapter"].value), True)


def _require(draft: Draft, values: Values) -> None:
    for target, key in (
        ("model_name_or_path", "base_model"),
        ("data_path", "datasets"),
        ("learning_rate", "learning_rate"),
    ):
        if target not in (*draft.values, *draft.overrides) and key not in values:
            draft.refuse(key, f"is missing; write it, or give --{target}")


def _apply_defaults(draft: Draft, values: Values, *, adapts: bool) -> None:
    if adapts and "adapter" in values and values["adapter"].value == "qlora" and "gptq" not in values:
        draft.default("load_in_4bit", True, "adapter: qlora")
    if adapts:
        draft.default("lora_dropout", 0.0)
    for target, value in DEFAULTS.items():
        draft.default(target, value)
    if "per_device_train_batch_size" in draft.values:
        size = draft.values["per_device_train_batch_size"].value
        draft.default("per_device_eval_batch_size", size, "as many as micro_batch_size")
