"""What axolotl's files say of weights in few bits: rounding while training, sparse weights, products in 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sft.config.fewer_bits import FIXED_GROUPS, QAT_GROUPS
from sft.config.values import FALSE_WORDS, RawValue
from sft.dialects.translation import EMPTY, OFF, Draft, Values

BIT_KEYS = (
    "qat",
    "quantization",
    "fp8",
    "fp8_enable_fsdp_float8_all_gather",
    "use_onebitllms",
    "llmcompressor",
    "gptq",
    "peft",
)

FORMATS = {
    "int4": "int4",
    "int8": "int8",
    "fp8": "float8",
    "float8": "float8",
    "float8_e4m3fn": "float8",
    "nvfp4": "nvfp4",
    "mxfp4": "mxfp4",
}
AFTERWARDS = "`axolotl quantize` alone reads it; docs/fewer-bits.md tells how to quantise what was saved"
KEPT_ZEROS = "of every linear layer but the output head"
LOFTQ = "the base is held in NF4 as the matrices expect it; axolotl holds the same values in 16 bits"


def translate_bits(draft: Draft, values: Values, *, adapts: bool) -> None:
    """Settle every key of BIT_KEYS."""
    for key in (key for key in BIT_KEYS if key in values):
        raw = values[key]
        if raw.value in ({}, []) or str(raw.value).lower() in FALSE_WORDS:
            draft.ignore(key, raw, OFF)
        elif key == "qat":
            _translate_qat(draft, key, raw)
        elif key == "quantization":
            draft.ignore(key, raw, AFTERWARDS)
        elif key == "fp8_enable_fsdp_float8_all_gather":
            draft.ignore(key, raw, "weights travel in 16 bits between processes; the products are the same")
        elif key == "peft":
            _translate_loftq(draft, key, raw)
        elif key == "gptq" and not adapts:
            draft.refuse(key, "GPTQ weights cannot be trained themselves. Write adapter: lora", raw.origin)
        elif key == "gptq":
            draft.ignore(key, raw, "the model's own config.json says it")
        elif key == "fp8":
            draft.give(key, raw, "float8_training")
        elif key == "use_onebitllms":
            draft.give(key, replace(raw, value="ternary"), "qat_weight_dtype", "as BitNet b1.58 rounds them")
            draft.default("qat_activation_dtype", "int8", "a scale for each token, as BitNet has it")
        else:
            _translate_sparsity(draft, key, raw)


def _translate_qat(draft: Draft, key: str, raw: RawValue) -> None:
    """axolotl's own defaults: int8 weights in groups of 32, inputs as they are."""
    written = draft.entries(key, raw)
    entries = {name: entry for name, entry in written.items() if entry.value is not None}
    formats = {name: FORMATS.get(str(entries[name].value)) for name in _DTYPES if name in entries}
    for name, target in _DTYPES.items():
        if name not in entries:
            continue
        if formats[name] is None:
            known = ", ".join(sorted(set(FORMATS.values())))
            draft.refuse(f"{key}.{name}", f"{entries[name].value!r} is not known. Known are {known}", raw.origin)
        else:
            draft.give(f"{key}.{name}", replace(entries[name], value=formats[name]), target)
    weights = formats.get("weight_dtype", "int8")
    draft.default("qat_weight_dtype", "int8")
    draft.default("qat_output_head", True, "as torchao's quantize_ takes it, and axolotl with it")
    _translate_groups(draft, f"{key}.group_size", entries.get("group_size"), (weights, formats.get("activation_dtype")))
    for name, entry in entries.items():
        place = f"{key}.{name}"
        if name == "quantize_embedding":
            draft.give(place, entry, "qat_embedding")
        elif name == "fake_quant_after_n_steps":
            draft.give(place, entry, "qat_start_step")
        elif name not in (*_DTYPES, "group_size"):
            draft.refuse(place, "there is no such part", entry.origin)
    for name in written.keys() - entries.keys():
        draft.ignore(f"{key}.{name}", written[name], EMPTY)


_DTYPES = {"weight_dtype": "qat_weight_dtype", "activation_dtype": "qat_activation_dtype"}


def _translate_groups(draft: Draft, place: str, raw: RawValue | None, pair: tuple[str | None, str | None]) -> None:
    if raw is None:
        return
    usual = QAT_GROUPS.get((str(pair[0]), pair[1]))
    if usual is None:
        draft.ignore(place, raw, f"{pair[0]} has a scale for each row")
    elif pair in FIXED_GROUPS and str(raw.value) == str(usual):
        draft.ignore(place, raw, f"{pair[0]} always has groups of {usual}")
    else:
        draft.give(place, raw, "qat_group_size")


def _translate_sparsity(draft: Draft, key: str, raw: RawValue) -> None:
    """One of llm-compressor's modifiers is a way of training: what is pruned stays pruned."""
    for name, entry in draft.entries(key, raw).items():
        place = f"{key}.{name}"
        if name == "save_compressed":
            draft.ignore(place, entry, "weights are saved in full, zeros as zeros; llm-compressor packs them")
        elif name != "recipe":
            draft.refuse(place, "there is no such part", entry.origin)
        elif (names := list(_modifiers(entry.value))) == ["ConstantPruningModifier"]:
            draft.give(place, replace(entry, value=True), "keep_zeros", KEPT_ZEROS)
        else:
            what = ", ".join(names) or "this recipe"
            draft.refuse(place, f"{what}: only ConstantPruningModifier is known here, which keeps zeros", entry.origin)


def _modifiers(recipe: Any) -> list[str]:
    """Names of the modifiers of a recipe: stage -> ..._modifiers -> name."""
    stages = recipe.values() if isinstance(recipe, Mapping) else ()
    groups = [group for stage in stages if isinstance(stage, Mapping) for group in stage.values()]
    return [str(name) for group in groups if isinstance(group, Mapping) for name in group]


def _translate_loftq(draft: Draft, key: str, raw: RawValue) -> None:
    for name, entry in draft.entries(key, raw).items():
        place = f"{key}.{name}"
        bits = entry.value.get("loftq_bits") if isinstance(entry.value, Mapping) else None
        if name != "loftq_config" or str(bits) != "4":
            draft.refuse(place, "only loftq_config with loftq_bits: 4 is known here", entry.origin)
            continue
        draft.give(place, replace(entry, value="loftq"), "init_lora_weights", LOFTQ)
        draft.default("load_in_4bit", True, "loftq_bits: 4")
        draft.default("bnb_4bit_use_double_quant", False, "as LoftQ rounds")
