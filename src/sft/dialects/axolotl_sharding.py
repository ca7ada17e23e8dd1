"""How an axolotl run is spread over devices: FSDP and DeepSpeed, by transformers' own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sft.config.values import TRUE_WORDS, RawValue
from sft.dialects.translation import EMPTY, Draft, Note, Values

SHARDING_KEYS = ("fsdp", "fsdp_config", "fsdp_version", "fsdp_final_state_dict_type", "fp32_norms")

KEPT = {
    "activation_checkpointing": "activation_checkpointing",
    "auto_wrap_policy": "auto_wrap_policy",
    "cpu_ram_efficient_loading": "cpu_ram_efficient_loading",
    "min_num_params": "min_num_params",
    "offload_params": "cpu_offload",
    "reshard_after_forward": "reshard_after_forward",
    "state_dict_type": "state_dict_type",
    "transformer_layer_cls_to_wrap": "transformer_layer_cls_to_wrap",
}
FIRST_VERSION_ONLY = (
    "backward_prefetch", "forward_prefetch", "limit_all_gathers", "sync_module_states", "use_orig_params",
    "cpu_offload_pin_memory", "mixed_precision_policy",
)  # fmt: skip
STRATEGY = "full_shard auto_wrap"
SIZES = {
    "context_parallel_size": "context_parallel_size",
    "sequence_parallel_degree": "context_parallel_size",
    "tensor_parallel_size": "tensor_parallel_size",
    "expert_parallel_size": "expert_parallel_size",
    "dp_replicate_size": "dp_replicate_size",
    "dp_shard_size": None,
}
"""Numbers of processes that share something -> our option; None: it follows from how many are started."""


def translate_sharding(draft: Draft, values: Values) -> None:
    """Settle every key of SHARDING_KEYS. What is sharded is sharded by FSDP 2, the one that stays in transformers."""
    config = values.get("fsdp_config")
    words = values.get("fsdp")
    if config is None and words is None:
        for key in SHARDING_KEYS:
            if key in values:
                draft.ignore(key, values[key], "there is no fsdp_config")
        return
    if words is not None:
        draft.give("fsdp", replace(words, value=STRATEGY), "fsdp")
    else:
        draft.default("fsdp", STRATEGY, "fsdp_config is there")
    settings = _settings(draft, config, values)
    draft.default("fsdp_config", settings, "FSDP 2 with the settings of the file")
    for key in ("fsdp_version", "fsdp_final_state_dict_type", "fp32_norms"):
        if key in values:
            draft.ignore(key, values[key], _about(key))


def _about(key: str) -> str:
    return {
        "fsdp_version": "FSDP 2 is used; the first one leaves transformers",
        "fsdp_final_state_dict_type": "the final weights are gathered and saved once",
    }.get(key, "mixed precision is the whole model's")


def _settings(draft: Draft, config: RawValue | None, values: Values) -> dict[str, Any]:
    settings: dict[str, Any] = {"version": 2}
    if config is None:
        return settings
    if not isinstance(config.value, Mapping):
        draft.refuse("fsdp_config", f"is a mapping, not {config.value!r}", config.origin)
        return settings
    for name, entry in config.entries().items():
        key, bare = f"fsdp_config.{name}", name.removeprefix("fsdp_")
        if entry.value is None:
            draft.ignore(key, entry, EMPTY)
        elif bare in KEPT:
            settings[KEPT[bare]] = entry.value
            draft.join(key, entry, "fsdp_config")
        elif bare == "sharding_strategy":
            _translate_strategy(draft, key, entry, settings)
        elif bare in FIRST_VERSION_ONLY or bare in ("version", "final_state_dict_type"):
            draft.ignore(key, entry, "a setting of the first FSDP; FSDP 2 is used")
        else:
            draft.refuse(key, f"there is no such setting. Settings are {', '.join(KEPT)}", entry.origin)
    return settings


def _translate_strategy(draft: Draft, key: str, raw: RawValue, settings: dict[str, Any]) -> None:
    if raw.value in ("FULL_SHARD", "SHARD_GRAD_OP"):
        settings.setdefault("reshard_after_forward", raw.value == "FULL_SHARD")
        draft.join(key, raw, "fsdp_config")
    else:
        draft.refuse(key, f"{raw.value!r} is not known. Known are FULL_SHARD and SHARD_GRAD_OP", raw.origin)


def translate_size(draft: Draft, key: str, raw: RawValue) -> None:
    """A number of processes. Over those that share no layer, weights are shared by FSDP 2 in any case."""
    target = SIZES[key]
    if raw.value in (1, "1"):
        draft.ignore(key, raw, "1 asks for nothing")
    elif target is not None:
        draft.give(key, raw, target)
    else:
        draft.ignore(key, raw, "what is shared is shared over all processes that are started")


def attend_as_context_does(draft: Draft) -> None:
    """Rows that processes share are attended to by one implementation, whichever kernel the file names."""
    if "context_parallel_size" not in draft.values or "attn_implementation" not in draft.values:
        return
    del draft.values["attn_implementation"]
    reason = "with context_parallel_size each document is attended to alone, by PyTorch's own flash kernel"
    draft.notes = [
        Note(note.key, "ignored", None, reason, note.origin) if note.target == "attn_implementation" else note
        for note in draft.notes
    ]


def recomputes(values: Values) -> bool:
    """Whether FSDP itself recomputes activations, which transformers refuses beside gradient_checkpointing."""
    config = values.get("fsdp_config")
    entries = config.value if config is not None and isinstance(config.value, Mapping) else {}
    asked = entries.get("activation_checkpointing", entries.get("fsdp_activation_checkpointing"))
    return str(asked).lower() in TRUE_WORDS
