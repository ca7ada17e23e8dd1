"""The full list of option names. Adding or removing one is a visible decision: change this list in the same commit."""

from __future__ import annotations

from sft.config.catalog import OPTIONS, SECTIONS
from sft.config.describe import help_text, json_schema, reference

NAMES = """
model_name_or_path model_revision tokenizer_name_or_path trust_remote_code dtype attn_implementation load_in_4bit
load_in_8bit quantize_experts bnb_4bit_quant_type bnb_4bit_use_double_quant bnb_4bit_compute_dtype special_tokens
added_tokens added_special_tokens

data_path train_tasks max_train_samples allow_contamination eval_data_path validation_size data_split data_revision
format_type columns role_names input_separator system_prompt deduplicate max_bad_rows chat_template use_chat_template
chat_template_kwargs train_on rewritten_history allow_special_tokens append_eos max_length min_length overlong packing
packing_fallback cache_dir overwrite_cache stream_preparation stream_window preparation_workers

stage isolate_documents dpo_beta dpo_loss_type dpo_label_smoothing max_prompt_length

use_lora lora_r lora_alpha lora_dropout target_modules target_parameters exclude_modules layers_to_transform
modules_to_save lora_bias use_rslora use_dora init_lora_weights loraplus_lr_ratio adapter_name_or_path trainable_layers
trainable_modules

num_train_epochs max_steps per_device_train_batch_size gradient_accumulation_steps learning_rate weight_decay
warmup_steps warmup_shape lr_scheduler_type train_sampling_strategy optim max_grad_norm max_bad_steps fp16 bf16
router_aux_loss gradient_checkpointing seed dataloader_num_workers tensor_parallel_size context_parallel_size
expert_parallel_size dp_replicate_size ddp_timeout resume_from_checkpoint allow_change

eaft_alpha eaft_top_k eaft_divisor lisa_layers lisa_interval relora_steps relora_prune_method relora_prune_ratio
lr_restart_steps lr_restart_warmup_steps lr_restart_anneal_steps

tokens_per_batch gradient_checkpointing_every gradient_checkpointing_layers offload_activations compile_layers
cpu_matmul keep_cpu_memory log_token_figures memory_check

qat_weight_dtype qat_activation_dtype qat_group_size qat_embedding qat_output_head qat_start_step float8_training
keep_zeros

do_eval eval_strategy eval_steps per_device_eval_batch_size load_best_model_at_end early_stopping_patience
gen_questions_file gen_every_n_steps gen_max_new_tokens eval_tasks eval_samples eval_max_prompt_tokens eval_engine
eval_engine_python eval_engine_url eval_engine_args truthfulqa_scorer bleurt_checkpoint combined_weights longbench_dir
qmsum_dir truthfulqa_file

output_dir overwrite_output_dir model_dir merged_dir logging_steps save_strategy save_steps save_total_limit
save_in_background on_failed_save run_name report_to track_texts report_page also_write quiet
"""


def test_names_of_all_options() -> None:
    assert list(OPTIONS) == NAMES.split()


def test_every_option_is_explained_everywhere() -> None:
    text, page, schema = help_text(width=100), reference(), json_schema()
    for name, entry in OPTIONS.items():
        assert entry.option.help.endswith(".")
        assert f"--{name} " in text
        assert f"| `{name}` |" in page
        assert schema["properties"][name]["description"] == entry.option.help


def test_every_section_has_its_options() -> None:
    assert {entry.section for entry in OPTIONS.values()} == set(SECTIONS)
