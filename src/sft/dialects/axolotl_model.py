"""axolotl's model: its adapter, how its weights are held, its attention, its tokens. Each function settles one key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sft.config.values import RawValue
from sft.dialects.axolotl_keys import ATTENTION, ATTENTION_FLAGS
from sft.dialects.translation import EMPTY, OFF, Draft, Settle, is_true

ADAPTERS = {"lora": True, "qlora": True, "none": False}


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


MODEL_KEYS: Mapping[str, Settle] = {
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
}
"""Keys of the model that need more than a table."""
