"""LLaMA-Factory's keys that need more than a table: one small function for each, and HANDLERS, which names them.

Each settles one key of a draft: ``(draft, key, raw, values)``, where ``values`` are all keys of the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace

from sft.config.values import RawValue
from sft.data.templates import read_template, template_names
from sft.dialects import llama_factory_keys as keys
from sft.dialects.llama_factory_data import find_sources
from sft.dialects.llama_factory_values import listed, method_of, number, stage_of, word_of
from sft.dialects.translation import OFF, Draft, Values, is_true

Handler = Callable[[Draft, str, RawValue, Values], None]

LONGEST_WAIT = 86_400
OUTSIDE_LAYERS = r"(^|\.){}(\.|$)"

# ---- method ----------------------------------------------------------------------------------------------------------


def _stage(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    word = str(raw.value)
    if word in keys.STAGES:
        draft.give(key, replace(raw, value=keys.STAGES[word]), "stage", "pt is pretrain here" if word == "pt" else "")
    elif word in keys.OTHER_STAGES:
        draft.refuse(key, f"{word}: {keys.OTHER_STAGES[word]}. Stages are {', '.join(keys.STAGES)}", raw.origin)
    else:
        draft.refuse(key, f"there is no stage {word!r}. Stages are {', '.join(keys.STAGES)}", raw.origin)


def _finetuning_type(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    word = str(raw.value)
    if word in ("lora", "full", "freeze"):
        said = {"lora": "", "full": "", "freeze": "every weight but those of the chosen layers is frozen"}[word]
        draft.give(key, replace(raw, value=word == "lora"), "use_lora", said)
    else:
        what = "OFT is not trained here" if word == "oft" else f"there is no method {word!r}"
        draft.refuse(key, f"{what}. Methods are lora, full and freeze", raw.origin)


def _lora(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    if method_of(values) != "lora":
        draft.ignore(key, raw, f"finetuning_type is {method_of(values)}")
        return
    value = raw.value
    if key in ("lora_target", "additional_target"):
        value = "all-linear" if value == "all" else listed(value)
    draft.give(key, replace(raw, value=value), keys.LORA_NAMES[key])


def _adapter(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    if len(listed(raw.value)) > 1:
        draft.refuse(key, "several adapters: merge all but the last into the model first (sft merge)", raw.origin)
    else:
        draft.give(key, raw, "adapter_name_or_path")


def _pissa(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    """pissa_init, pissa_iter and pissa_convert are one option: PEFT's init_lora_weights."""
    if not is_true(values.get("pissa_init")):
        draft.ignore(key, raw, "pissa_init is off")
    elif key == "pissa_init":
        rounds = int(number(values["pissa_iter"].value) or 16) if "pissa_iter" in values else 16
        name = "pissa" if rounds < 1 else f"pissa_niter_{rounds}"
        draft.give(key, replace(raw, value=name), "init_lora_weights")
    elif key == "pissa_iter":
        draft.join(key, raw, "init_lora_weights")
    else:
        draft.ignore(key, raw, "the saved adapter always fits the original model")


def _freeze(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    if method_of(values) != "freeze":
        draft.ignore(key, raw, f"finetuning_type is {method_of(values)}")
    elif key == "freeze_trainable_layers":
        draft.give(key, raw, "trainable_layers")
    elif key == "freeze_extra_modules":
        names = [OUTSIDE_LAYERS.format(name.replace(".", r"\.")) for name in listed(raw.value)]
        draft.give(key, replace(raw, value=names), "trainable_modules")
    elif raw.value == "all":
        draft.ignore(key, raw, "whole layers are trained")
    else:
        draft.refuse(
            key,
            "parts of the last layers cannot be named without their numbers. Write trainable_modules with regular "
            r"expressions, such as 'layers\.(30|31)\.mlp'",
            raw.origin,
        )


def _quantization_bit(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    target = {4: "load_in_4bit", 8: "load_in_8bit"}.get(int(number(raw.value) or 0))
    if target is None:
        draft.refuse(key, f"{raw.value!r}: weights are held in 4 or 8 bits", raw.origin)
    else:
        draft.give(key, replace(raw, value=True), target)


def _quantization_detail(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    if number(values["quantization_bit"].value if "quantization_bit" in values else None) == 4:
        draft.give(key, raw, keys.QUANTIZATION_NAMES[key])
    else:
        draft.ignore(key, raw, "weights are not held in 4 bits")


def _pref_loss(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    if raw.value in ("sigmoid", "hinge", "ipo"):
        draft.give(key, raw, "dpo_loss_type")
    else:
        draft.refuse(key, f"{raw.value}: not trained here. Losses are sigmoid (DPO), hinge and ipo", raw.origin)


def _ref_model(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    model = values.get("model_name_or_path")
    if model is not None and raw.value == model.value:
        draft.ignore(key, raw, "the reference of DPO is the model before training")
    else:
        draft.refuse(key, "the reference of DPO is the model before training, not another", raw.origin)


# ---- data ------------------------------------------------------------------------------------------------------------


def _dataset(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    target = "data_path" if key == "dataset" else "eval_data_path"
    if target in draft.overrides:
        draft.ignore(key, raw, f"--{target} is given")
        return
    folder = str(values["dataset_dir"].value) if "dataset_dir" in values else "data"
    most = values.get("max_samples")
    sources = find_sources(
        raw.value,
        dataset_dir=folder,
        stage=keys.STAGES.get(stage_of(values), "sft"),
        max_samples=None if most is None or most.value is None else int(number(most.value) or 0),
    )
    for problem in sources.problems:
        draft.refuse(key, problem, raw.origin)
    if not sources.problems:
        draft.give(key, replace(raw, value=sources.entries, inner_origins={}), target, "; ".join(sources.notes))


def _part_of_data(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    said = {"max_samples": "the first rows of each data set", "dataset_dir": "where dataset_info.json is read"}[key]
    draft.join(key, raw, "data_path", said)


def _template(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    name = keys.TEMPLATES.get(str(raw.value), str(raw.value))
    if stage_of(values) == "pt":
        draft.ignore(key, raw, "texts are not rendered by a template")
    elif "chat_template" in draft.overrides:
        draft.ignore(key, raw, "--chat_template is given")
    elif name in template_names():
        draft.give(key, replace(raw, value=name), "chat_template")
    elif name in keys.MULTIMODAL_TEMPLATES:
        draft.refuse(key, f"{name} is for models with images, videos or audio, and sft trains on text", raw.origin)
    else:
        near = difflib.get_close_matches(name, template_names(), n=1)
        draft.refuse(
            key,
            f"sft ships no template {name!r}{f' (nearest: {near[0]})' if near else ''}. Leave template out to use the "
            "one that came with the model's tokenizer, or give a .jinja file with --chat_template",
            raw.origin,
        )


def _enable_thinking(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    template = values.get("template")
    name = None if template is None else keys.TEMPLATES.get(str(template.value), str(template.value))
    if name in template_names() and "enable_thinking" not in read_template(str(name)):
        draft.ignore(key, raw, f"template {name} has no thoughts")
    elif is_true(raw):
        said = "answers without a thought are trained to begin with an empty one"
        draft.give(key, replace(raw, value={"enable_thinking": True}), "chat_template_kwargs", said)
    else:
        said = "the empty thought stands in the prompt; a row with a real one cannot be used, the original strips it"
        draft.give(key, replace(raw, value={"enable_thinking": False}), "chat_template_kwargs", said)


def _mask(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    if not is_true(raw):
        draft.ignore(key, raw, OFF)
    else:
        value = {"mask_history": "last_answer", "train_on_prompt": "everything"}[key]
        draft.give(key, replace(raw, value=value), "train_on")


def _packing(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    other = values.get("packing" if key == "neat_packing" else "neat_packing")
    if stage_of(values) == "pt":
        draft.ignore(key, raw, "texts are always joined and cut into full blocks")
    elif "packing" in draft.values:
        draft.join(key, raw, "packing")
    elif is_true(raw):
        said = "packed rows do not see each other, which the original's do under packing without neat_packing"
        draft.give(key, replace(raw, value=True), "packing", said if key == "packing" and not is_true(other) else "")
    elif is_true(other):
        draft.join(key, raw, "packing", "neat_packing is on")
    else:
        draft.give(key, replace(raw, value=False), "packing")


def _tokens(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    draft.give(key, replace(raw, value=listed(raw.value)), key.replace("add_", "added_"))


def _split_special_tokens(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    draft.ignore(key, raw, "special-token text in messages is always plain text; allow_special_tokens lets it control")


# ---- training and output ---------------------------------------------------------------------------------------------


def _flash_attn(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    word = str(raw.value).lower()
    if word == "auto":
        draft.ignore(key, raw, "transformers chooses")
    elif word in keys.ATTENTION:
        draft.give(key, replace(raw, value=keys.ATTENTION[word]), "attn_implementation")
    else:
        draft.refuse(key, f"{raw.value!r} is none of auto, {', '.join(keys.ATTENTION)}", raw.origin)


def _checkpointing(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    if key == "disable_gradient_checkpointing":
        draft.give(key, replace(raw, value=not is_true(raw)), "gradient_checkpointing")
    elif "disable_gradient_checkpointing" in values:
        draft.ignore(key, raw, "disable_gradient_checkpointing decides")
    else:
        draft.give(key, raw, "gradient_checkpointing")


def _pure_bf16(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    if is_true(raw):
        said = "weights are trained in bfloat16, where small updates are lost; leave it out for bf16 over float32"
        draft.give(key, replace(raw, value="bfloat16"), "dtype", said)
    else:
        draft.ignore(key, raw, OFF)


def _ddp_timeout(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    seconds = number(raw.value)
    if seconds is not None and seconds > LONGEST_WAIT:
        days = seconds / LONGEST_WAIT
        draft.ignore(
            key, raw, f"{days:,.0f} days would hide a process that hangs; minutes are waited, and its rank named"
        )
    else:
        draft.give(key, raw, "ddp_timeout")


def _entropy(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    """The EAFT loss, over the 20 likeliest tokens."""
    asked = is_true(values.get("use_eaft_loss"))
    if key == "eaft_alpha" and asked:
        draft.join(key, raw, "eaft_alpha")
    elif asked:
        alpha = values.get("eaft_alpha")
        draft.give(key, replace(raw, value=1.0 if alpha is None else alpha.value), "eaft_alpha")
        draft.default("eaft_divisor", 3.0, "what LLaMA-Factory divides the entropy by")
    else:
        draft.ignore(key, raw, OFF if key == "use_eaft_loss" else "it belongs to use_eaft_loss")


def _plot_loss(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    if is_true(raw) and "also_write" not in values:
        draft.give(key, replace(raw, value=[*keys.FILES, "loss_plot"]), "also_write", "training_loss.png")
    else:
        draft.ignore(key, raw, "also_write decides" if is_true(raw) else OFF)


def _overwrite(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    resume = values.get("resume_from_checkpoint")
    if is_true(raw) and resume is not None and word_of(resume.value) not in ("none", "null", "false"):
        draft.ignore(key, raw, "resume_from_checkpoint is given, so nothing is removed")
    else:
        draft.give(key, raw, key)


def _resume(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    if word_of(raw.value) in ("none", "null", "false"):
        draft.ignore(key, raw, "as if it were not there: goes on from the newest checkpoint in output_dir, if any")
    else:
        draft.give(key, raw, key)


def _do_eval(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    strategy = next((values[name] for name in ("eval_strategy", "evaluation_strategy") if name in values), None)
    if strategy is not None and word_of(strategy.value) != "no":
        draft.ignore(key, raw, "eval_strategy decides")
    else:
        draft.give(key, raw, key)


def _wrapped_layer(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    if "fsdp_config" in values:
        draft.refuse(key, "write it into fsdp_config: {transformer_layer_cls_to_wrap: ...}", raw.origin)
    else:
        draft.give(key, replace(raw, value={"transformer_layer_cls_to_wrap": listed(raw.value)}), "fsdp_config")


def _fsdp(draft: Draft, key: str, raw: RawValue, values: Values) -> None:
    value = " ".join(map(str, raw.value)) if isinstance(raw.value, list) else raw.value
    draft.give(key, replace(raw, value=value), "fsdp")


HANDLERS: Mapping[str, Handler] = {
    "stage": _stage,
    "finetuning_type": _finetuning_type,
    **dict.fromkeys(keys.LORA_NAMES, _lora),
    "adapter_name_or_path": _adapter,
    **dict.fromkeys(("pissa_init", "pissa_iter", "pissa_convert"), _pissa),
    **dict.fromkeys(("freeze_trainable_layers", "freeze_trainable_modules", "freeze_extra_modules"), _freeze),
    "quantization_bit": _quantization_bit,
    **dict.fromkeys(keys.QUANTIZATION_NAMES, _quantization_detail),
    "pref_loss": _pref_loss,
    "ref_model": _ref_model,
    **dict.fromkeys(("dataset", "eval_dataset"), _dataset),
    **dict.fromkeys(("dataset_dir", "max_samples"), _part_of_data),
    "template": _template,
    "enable_thinking": _enable_thinking,
    **dict.fromkeys(("mask_history", "train_on_prompt"), _mask),
    **dict.fromkeys(("packing", "neat_packing"), _packing),
    **dict.fromkeys(("add_tokens", "add_special_tokens"), _tokens),
    "split_special_tokens": _split_special_tokens,
    "flash_attn": _flash_attn,
    **dict.fromkeys(("gradient_checkpointing", "disable_gradient_checkpointing"), _checkpointing),
    "pure_bf16": _pure_bf16,
    "ddp_timeout": _ddp_timeout,
    "plot_loss": _plot_loss,
    "use_eaft_loss": _entropy,
    "eaft_alpha": _entropy,
    "overwrite_output_dir": _overwrite,
    "resume_from_checkpoint": _resume,
    "do_eval": _do_eval,
    "fsdp": _fsdp,
    "fsdp_transformer_layer_cls_to_wrap": _wrapped_layer,
}
"""Keys that need more than a table."""
