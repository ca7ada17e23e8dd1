"""axolotl's YAML, for supervised fine-tuning on text. Defaults are those of axolotl 0.18.

Keys that need no thought stand in ``axolotl_keys.py``; the others in a file for each subject. An empty value is as if
the key were not there.
"""

from __future__ import annotations

from sft.config.values import RawValue
from sft.dialects.axolotl_bits import BIT_KEYS, translate_bits
from sft.dialects.axolotl_data import translate_data
from sft.dialects.axolotl_keys import (
    ADAPTER_KEYS,
    DEFAULTS,
    NAMES,
    NOT_USED,
    NOT_USED_PREFIXES,
    REFUSED,
    TRACKERS,
)
from sft.dialects.axolotl_learning import LEARNING_KEYS, translate_learning
from sft.dialects.axolotl_metrics import METRIC_KEYS, translate_metrics
from sft.dialects.axolotl_model import ADAPTERS, MODEL_KEYS
from sft.dialects.axolotl_schedule import SCHEDULE_KEYS, translate_schedule
from sft.dialects.axolotl_sharding import (
    SHARDING_KEYS,
    SIZES,
    attend_as_context_does,
    recomputes,
    translate_sharding,
    translate_size,
)
from sft.dialects.axolotl_training import (
    OLD_PACKING,
    PRECISION_KEYS,
    TRAINING_KEYS,
    translate_old_packing,
    translate_precision,
    translate_trackers,
)
from sft.dialects.translation import Draft, Translation, Values, is_true

NAME = "axolotl"

DATA_KEYS = ("datasets", "test_datasets", "val_set_size", "train_on_inputs", "chat_template", "chat_template_jinja")


def recognises(values: Values) -> bool:
    """Whether the model is named as axolotl alone names it."""
    return "base_model" in values


def translate(values: Values, overrides: Values) -> Translation:
    """``values``: the file as read; ``overrides``: our options on the command line, which win over the file."""
    draft = Draft(NAME, overrides)
    given = draft.given(values)
    adapts = _adapts(given, overrides)
    translate_data(draft, given)
    translate_schedule(draft, given)
    translate_sharding(draft, given)
    translate_metrics(draft, given)
    translate_learning(draft, given)
    translate_old_packing(draft, given)
    translate_precision(draft, given, adapts=adapts)
    translate_trackers(draft, given)
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
    elif settle := MODEL_KEYS.get(key) or TRAINING_KEYS.get(key):
        settle(draft, key, raw)
    elif key in REFUSED:
        draft.refuse_if_asked(key, raw, REFUSED[key])
    elif key in SIZES:
        translate_size(draft, key, raw)
    elif key in NOT_USED or prefixed:
        draft.ignore(key, raw, NOT_USED.get(key) or str(prefixed))
    else:
        draft.take(key, raw, NAMES)


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
