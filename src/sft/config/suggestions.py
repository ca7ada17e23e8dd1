"""What a user may have meant by a name that is no option."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from sft.config.catalog import OPTIONS
from sft.config.renamed import RENAMED
from sft.config.training_arguments import installed_fields


def suggest(name: str) -> str:
    """A sentence naming the nearest option, or what another tool's name is called here."""
    spelled = name.lower().replace("-", "_")
    if spelled in ELSEWHERE:
        return f"Other tools' {name} is {ELSEWHERE[spelled]} here."
    if spelled.startswith("no_") and spelled[3:] in OPTIONS:
        return f"To switch {spelled[3:]} off, write {spelled[3:]}: false or --{spelled[3:]} False."
    near = nearest(spelled, [*OPTIONS, *installed_fields(), *RENAMED, *ELSEWHERE])
    if near is not None and near in ELSEWHERE:
        return f"Did you mean {near}, as other tools have it? That is {ELSEWHERE[near]} here."
    return f"Did you mean {near}?" if near else "`sft schema` and `sft train --help` list every option."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The most similar name, if one is similar at all."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


ELSEWHERE: Mapping[str, str] = {
    "adapter": "use_lora",
    "adapter_path": "adapter_name_or_path",
    "additional_target": "modules_to_save",
    "assistant_only_loss": "train_on: answers",
    "base_model": "model_name_or_path",
    "batch_size": "per_device_train_batch_size",
    "beta": "dpo_beta",
    "completion_only_loss": "train_on: answers",
    "config": "the file itself (sft train FILE)",
    "cutoff_len": "max_length",
    "dataset": "data_path",
    "dataset_name": "data_path",
    "dataset_path": "data_path",
    "dataset_text_field": "columns: {text: ...}",
    "datasets": "data_path",
    "default_system": "system_prompt",
    "epochs": "num_train_epochs",
    "eval_dataset": "eval_data_path",
    "excess_length_strategy": "overlong",
    "finetuning_type": "use_lora",
    "flash_attn": "attn_implementation",
    "use_flash_attention_2": "attn_implementation: flash_attention_2",
    "label_smoothing": "label_smoothing_factor, or dpo_label_smoothing in stage dpo",
    "lora_modules_to_save": "modules_to_save",
    "lora_rank": "lora_r",
    "lora_target": "target_modules",
    "lora_target_modules": "target_modules",
    "lr": "learning_rate",
    "lr_scheduler": "lr_scheduler_type",
    "micro_batch_size": "per_device_train_batch_size",
    "model": "model_name_or_path",
    "model_id": "model_name_or_path",
    "model_max_length": "max_length",
    "model_name": "model_name_or_path",
    "neat_packing": "packing",
    "no_chat_template": "use_chat_template: false",
    "no_eval": "do_eval: false",
    "num_epochs": "num_train_epochs",
    "optimizer": "optim",
    "quantization_bit": "load_in_4bit or load_in_8bit",
    "sample_packing": "packing",
    "sequence_len": "max_length",
    "task_type": "stage",
    "template": "chat_template",
    "train_file": "data_path",
    "train_on_inputs": "train_on: everything",
    "train_on_prompt": "train_on: everything",
    "use_peft": "use_lora",
    "val_set_size": "validation_size",
    "val_size": "validation_size",
    "validation_file": "eval_data_path",
}
"""Names in LLaMA-Factory, axolotl, TRL and scripts. Only suggested: defaults and details differ there."""
