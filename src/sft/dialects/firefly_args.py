"""Firefly's training arguments: one flat JSON file, ``train.py --train_args_file X.json`` (the CS5340 fork's too).

A few keys are its own, the rest are transformers' training arguments of its day, and so are the defaults. Where it
spoiled what was trained (answers cut in the middle, an end token that is none, held-out rows nobody looked at), the
walk does it right and a note says what differs.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from sft.config.values import TRUE_WORDS, RawValue
from sft.data.templates import template_names
from sft.dialects.translation import Draft, Translation, Values

NAME = "firefly_args"
TAKES_PAIRS = True
"""Words such as ``lora_rank=16`` after the file replace its keys."""

NAMES = {
    "train_file": "data_path",
    "eval_file": "eval_data_path",
    "template_name": "chat_template",
    "max_seq_length": "max_length",
    "task_type": "stage",
    "beta": "dpo_beta",
    "lora_rank": "lora_r",
}
OWN_KEYS = (*NAMES, "train_mode", "tokenize_num_workers", "use_unsloth")
"""Keys that are no training arguments of transformers, nor options of ours."""

REQUIRED = {
    "model_name_or_path": "a folder, or a name on the hub such as NousResearch/Llama-2-7b-chat-hf",
    "train_file": "a .jsonl file; for task_type pretrain a folder of them",
    "max_seq_length": "a number of tokens, such as 1024",
    "output_dir": "a folder",
}
STAGES = ("sft", "pretrain", "dpo")
MODES = ("full", "lora", "qlora")
LORA_KEYS = ("lora_rank", "lora_alpha", "lora_dropout")
MENDED_TEMPLATES = {
    "mamba": "turns end with the tokenizer's end token; the original wrote </s>, which is plain text to Mamba's "
    "tokenizer, so that the model never learned to stop",
}
NOT_USED = {
    "tokenize_num_workers": "data is prepared once, before training, and kept",
    "disable_tqdm": "progress is shown once, by the first process",
    "local_rank": "the launcher's environment variable LOCAL_RANK says it",
}

ARGUMENTS: dict[str, Any] = {
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "logging_steps": 500,
    "save_steps": 500,
    "save_total_limit": None,
}
"""Defaults of transformers where ours are others."""

LORA: dict[str, Any] = {"lora_r": 64, "lora_alpha": 16, "lora_dropout": 0.05}

MAMBA_TARGETS = ["in_proj", "embeddings"]
MAMBA_REASON = (
    "these learn from an adapter on every machine; the original had x_proj and out_proj too, which fused kernels read "
    "past it"
)

EXPERTS = re.compile(r"mixtral|qwen.*moe")
"""Models whose config asks for a loss that balances experts."""

OVERLONG = (
    "what lies beyond max_seq_length leaves by whole exchanges; an answer too long by itself is left out and counted, "
    "where the original cut it in the middle"
)
LONG_PROMPT = (
    "longer prompts lose their oldest exchanges, and one that is still too long is left out and counted; the original "
    "cut through words"
)
ALSO_WRITE = ["arguments", "log", "results", "trainer_state"]


def recognises(values: Values) -> bool:
    """Whether a training file is named as Firefly does, beside a word that is Firefly's alone."""
    return "train_file" in values and any(key in values for key in ("template_name", "train_mode", "task_type"))


def translate(values: Values, overrides: Values) -> Translation:
    """``values``: the file as read; ``overrides``: our options on the command line, which win over the file."""
    draft = Draft(NAME, overrides)
    own = {**values, **overrides}
    stage = _word(own.get("stage", values.get("task_type")), "sft")
    adapts = _trains_adapter(own)
    for key, raw in values.items():
        if key in NOT_USED:
            draft.ignore(key, raw, NOT_USED[key])
        elif key == "task_type":
            _translate_stage(draft, key, raw)
        elif key == "train_mode":
            _translate_mode(draft, key, raw, adapts=adapts)
        elif key == "template_name":
            _translate_template(draft, key, raw, stage)
        elif key in LORA_KEYS and not adapts:
            draft.ignore(key, raw, "every weight is trained, so there is no adapter")
        elif key in ("beta", "max_prompt_length") and stage != "dpo":
            draft.ignore(key, raw, f"belongs to task_type dpo, and this is {stage}")
        else:
            _translate_argument(draft, key, raw)
    for key, wanted in REQUIRED.items():
        if NAMES.get(key, key) not in (*draft.values, *overrides):
            draft.refuse(key, f"is missing; give {wanted}")
    _apply_defaults(draft, values, stage, adapts=adapts)
    return draft.finish()


def _trains_adapter(values: Values) -> bool:
    """Whether LoRA matrices are trained; our own option for it comes before Firefly's mode."""
    if "use_lora" in values:
        return _word(values["use_lora"]) in TRUE_WORDS
    return _word(values.get("train_mode"), "qlora") != "full"


def _translate_stage(draft: Draft, key: str, raw: RawValue) -> None:
    if _word(raw) in STAGES:
        draft.give(key, replace(raw, value=_word(raw)), "stage")
    else:
        draft.refuse(key, f"{raw.value!r} is none of {', '.join(STAGES)}", raw.origin)


def _translate_mode(draft: Draft, key: str, raw: RawValue, *, adapts: bool) -> None:
    mode = _word(raw)
    if mode not in MODES:
        draft.refuse(key, f"{raw.value!r} is none of {', '.join(MODES)}", raw.origin)
        return
    draft.give(key, replace(raw, value=adapts), "use_lora")
    if mode == "qlora" and adapts:
        draft.give(key, replace(raw, value=True), "load_in_4bit")


def _translate_template(draft: Draft, key: str, raw: RawValue, stage: str) -> None:
    """Firefly's own text where it differs from the vendor's, which has the plain name here."""
    name = raw.value
    if stage == "pretrain":
        draft.ignore(key, raw, "texts are not rendered by a template")
    elif name in (None, ""):
        draft.ignore(key, raw, "empty: the tokenizer's own template is taken")
    elif (own := f"firefly_{name}") in template_names():
        draft.give(key, replace(raw, value=own), "chat_template", _about_template(name, own))
    else:
        draft.give(key, raw, "chat_template", MENDED_TEMPLATES.get(name, ""))


def _about_template(name: str, own: str) -> str:
    told = f"{own}, in Firefly's own text"
    return f"{told}; --chat_template {name} is the vendor's" if name in template_names() else told


def _translate_argument(draft: Draft, key: str, raw: RawValue) -> None:
    if key in ("eval_file", "deepspeed") and raw.value in (None, ""):
        draft.ignore(key, raw, "empty: as if it were not there")
    elif key == "eval_file":
        draft.give(key, raw, "eval_data_path", "its loss is measured; the original never looked at it")
    elif key == "use_unsloth":
        draft.ignore(key, raw, "its kernels train the same, faster; those of transformers are used")
    elif key == "max_prompt_length":
        draft.give(key, raw, key, LONG_PROMPT)
    else:
        draft.take(key, raw, NAMES)


def _apply_defaults(draft: Draft, values: Values, stage: str, *, adapts: bool) -> None:
    _default_mode(draft, adapts=adapts)
    if adapts:
        _default_targets(draft, values)
    _default_stage(draft, stage)
    _default_experts(draft)
    draft.default("model_dir", ".", "the result lies in output_dir itself")
    draft.default("also_write", ALSO_WRITE)
    for target, value in ARGUMENTS.items():
        draft.default(target, value)


def _default_mode(draft: Draft, *, adapts: bool) -> None:
    if "use_lora" not in draft.values and adapts:
        draft.default("use_lora", True, "train_mode is qlora where the file does not say")
        draft.default("load_in_4bit", True)


def _default_targets(draft: Draft, values: Values) -> None:
    for target, value in LORA.items():
        draft.default(target, value)
    if _word(values.get("template_name")) == "mamba":
        draft.default("target_modules", MAMBA_TARGETS, MAMBA_REASON)
    else:
        draft.default("target_modules", "all-linear", "every linear layer but the output head")


def _default_experts(draft: Draft) -> None:
    """The original looks into the model's config, which is not here yet; names tell."""
    name = draft.overrides.get("model_name_or_path", draft.values.get("model_name_or_path"))
    if name is not None and EXPERTS.search(str(name.value).lower()):
        draft.default("router_aux_loss", True, "the model's name tells of experts, which the original balances")


def _default_stage(draft: Draft, stage: str) -> None:
    if stage == "sft":
        draft.default("overlong", "cut_end", OVERLONG)
    elif stage == "dpo":
        draft.default("dpo_beta", 0.1)
        draft.default("overlong", "cut_start", "the oldest exchanges leave, as in the original; answers stay whole")
        if _leaves_room(draft, 512):
            draft.default("max_prompt_length", 512, LONG_PROMPT)


def _leaves_room(draft: Draft, tokens: int) -> bool:
    """Whether an answer fits beside a prompt of this many tokens."""
    given = draft.overrides.get("max_length", draft.values.get("max_length"))
    try:
        return given is None or float(given.value) > tokens
    except (TypeError, ValueError):
        return False


def _word(raw: RawValue | None, default: str = "") -> str:
    return default if raw is None else str(raw.value).lower()
