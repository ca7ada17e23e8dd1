"""Sectioned YAML: ``accelerate launch sft.py --config train.yaml``, with sections model, dataset and training.

Defaults are those of the program such files were written for. Where it did harm (answers cut in the middle, ``dtype``
and ``load_in_4bit`` read by nobody), the walk does it right and the note says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sft.config.values import RawValue
from sft.dialects.translation import CAUSAL_ONLY, EMPTY, Draft, Translation, Values, is_true

NAME = "accelerate_yaml"
SECTIONS = ("model", "dataset", "training")

MODEL = {
    "path": "model_name_or_path",
    "max_seq_length": "max_length",
    "dtype": "dtype",
    "load_in_4bit": "load_in_4bit",
    "use_lora": "use_lora",
}
LORA = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "target_modules": "target_modules",
    "lora_dropout": "lora_dropout",
    "bias": "lora_bias",
}
DATASET = {"name": "data_path", "subset": "data_path", "split": "data_split"}
COLUMNS = {"question_column": "question", "answer_column": "answer"}
TRAINING = {"epochs": "num_train_epochs"}

DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "learning_rate": 2e-4,
    "lr_scheduler_type": "linear",
    "warmup_steps": 5,
    "weight_decay": 0.01,
    "logging_steps": 1,
    "seed": 3407,
    "output_dir": "outputs",
}
LORA_DEFAULTS: dict[str, Any] = {
    "lora_r": 16,
    "lora_alpha": 32,
    "target_modules": ["q_proj", "v_proj"],
    "lora_dropout": 0.1,
}


def recognises(values: Values) -> bool:
    """Whether two of the three sections are there, as sections."""
    return sum(isinstance(values[name].value, Mapping) for name in SECTIONS if name in values) >= 2


def translate(values: Values, overrides: Values) -> Translation:
    """``values``: the file as read; ``overrides``: our options on the command line, which win over the file."""
    draft = Draft(NAME, overrides)
    sections = {name: _section(draft, name, values.get(name)) for name in SECTIONS}
    for key, raw in values.items():
        if key not in SECTIONS:
            draft.refuse(key, f"there is no such section. Sections are {', '.join(SECTIONS)}", raw.origin)
    uses_lora = is_true(overrides.get("use_lora") or sections["model"].get("model.use_lora"))
    _translate_model(draft, sections["model"], uses_lora=uses_lora)
    _translate_dataset(draft, sections["dataset"])
    for key, raw in sections["training"].items():
        draft.take(key, raw, TRAINING)
    _require(draft, "model.path", "model_name_or_path")
    _require(draft, "dataset.name", "data_path")
    _apply_defaults(draft, uses_lora=uses_lora)
    return draft.finish()


def _translate_model(draft: Draft, model: Values, *, uses_lora: bool) -> None:
    for key, raw in model.items():
        if key == "model.lora_config":
            _translate_lora(draft, _section(draft, key, raw), uses_lora=uses_lora)
        else:
            draft.take(key, raw, MODEL)


def _translate_lora(draft: Draft, lora: Values, *, uses_lora: bool) -> None:
    for key, raw in lora.items():
        name = key.rpartition(".")[2]
        if name == "task_type" and raw.value not in (None, "CAUSAL_LM"):
            draft.refuse(key, f"{raw.value!r} cannot be trained here; write CAUSAL_LM or take it out", raw.origin)
        elif name == "task_type":
            draft.ignore(key, raw, CAUSAL_ONLY)
        elif name in LORA and not uses_lora:
            draft.ignore(key, raw, "use_lora is false: every weight is trained")
        else:
            draft.take(key, raw, LORA)


def _translate_dataset(draft: Draft, dataset: Values) -> None:
    given = {key.removeprefix("dataset."): raw for key, raw in dataset.items()}
    subset = given.get("subset")
    for key, raw in dataset.items():
        name = key.removeprefix("dataset.")
        if name in ("subset", "split", *COLUMNS) and raw.value in (None, ""):
            draft.ignore(key, raw, EMPTY)
        elif name == "name" and subset is not None and subset.value:
            draft.give(key, replace(raw, value=f"{raw.value}:{subset.value}"), "data_path")
        elif name == "subset":
            draft.join(key, raw, "data_path")
        elif name in COLUMNS:
            _translate_column(draft, key, raw, given)
        else:
            draft.take(key, raw, DATASET)


def _translate_column(draft: Draft, key: str, raw: RawValue, given: Values) -> None:
    """Both names make one option; the one that is absent keeps its usual name."""
    if "columns" in draft.values:
        draft.join(key, raw, "columns")
        return
    question, answer = (given[name].value if name in given else usual for name, usual in COLUMNS.items())
    draft.give(key, replace(raw, value={"prompt": question, "response": answer}), "columns")


def _require(draft: Draft, key: str, target: str) -> None:
    if target not in draft.values and target not in draft.overrides:
        draft.refuse(key, f"is missing; write it, or give --{target}")


def _apply_defaults(draft: Draft, *, uses_lora: bool) -> None:
    for target, value in DEFAULTS.items():
        draft.default(target, value, "as in default_train_config.yaml")
    if "columns" in draft.values:
        draft.default("format_type", "custom", "the columns are named")
    draft.default("overlong", "drop", "rows longer than max_seq_length are left out; half an answer teaches no end")
    if uses_lora:
        for target, value in LORA_DEFAULTS.items():
            draft.default(target, value, "as in default_train_config.yaml")
        draft.default("model_dir", "lora_weights", "the adapter lies in output_dir/lora_weights")
        draft.default("merged_dir", ".", "the merged model lies in output_dir itself")
    else:
        draft.default("model_dir", ".", "the model lies in output_dir itself")


def _section(draft: Draft, key: str, raw: RawValue | None) -> dict[str, RawValue]:
    """The entries of a section under their full keys; an absent or empty one has none."""
    if raw is None or raw.value is None:
        return {}
    if isinstance(raw.value, Mapping):
        return {f"{key}.{name}": entry for name, entry in raw.entries().items()}
    draft.refuse(key, f"is a section with keys of its own, not {raw.value!r}", raw.origin)
    return {}
