"""How axolotl trains, and whom it tells: precision, memory, lengths and order of rows, resuming, the hub, trackers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sft.config.values import FALSE_WORDS, RawValue
from sft.dialects.axolotl_keys import IMPLIED_TRACKERS, PLUGINS, TRACKERS
from sft.dialects.translation import OFF, Draft, Settle, Values, is_true

PRECISION_KEYS = ("bf16", "fp16", "bfloat16", "float16")

OLD_PACKING = "max_packed_sequence_len"

OVERLONG = {"drop": "drop", "truncate": "cut_end", "raise": "error"}

CHECKPOINTING = {
    "offload": "activations are computed anew; what is kept stays on the device, the result is the same",
    "offload_disk": "activations are computed anew; what is kept stays on the device, the result is the same",
    "unsloth": "activations are computed anew; what is kept stays on the device, the result is the same",
}


def translate_precision(draft: Draft, values: Values, *, adapts: bool) -> None:
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


def translate_old_packing(draft: Draft, values: Values) -> None:
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


def translate_trackers(draft: Draft, values: Values) -> None:
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


TRAINING_KEYS: Mapping[str, Settle] = {
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
"""Keys of training that need more than a table."""
