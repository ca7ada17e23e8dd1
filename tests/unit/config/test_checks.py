"""One entry per rule: values that break it, and the nearest values that do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from sft.config import SFTConfig, require_data
from sft.config.checks import REMARKS, RULES
from sft.errors import ConfigError

EVAL = {"eval_data_path": "e.jsonl"}
BEST = {**EVAL, "load_best_model_at_end": True}


@dataclass(frozen=True)
class Case:
    """Values that a rule objects to, values that it accepts, and words of what it says."""

    rule: str
    breaks: dict[str, Any]
    keeps: dict[str, Any]
    says: str


PROBLEMS = [
    Case(
        "lengths_that_leave_nothing",
        {"min_length": 513, "max_length": 512},
        {"min_length": 512, "max_length": 512},
        "so that no example is left",
    ),
    Case(
        "task_options_without_tasks",
        {"eval_samples": 5},
        {"eval_samples": 5, "eval_tasks": ["qmsum"]},
        "without eval_tasks would be ignored",
    ),
    Case(
        "served_engine_without_adapter",
        {"eval_tasks": ["qmsum"], "eval_engine": "vllm"},
        {"eval_tasks": ["qmsum"], "eval_engine": "vllm", "use_lora": True},
        "told of each new adapter",
    ),
    Case(
        "fallback_without_packing",
        {"packing_fallback": "by_length"},
        {"packing_fallback": "by_length", "packing": True},
        "nothing is packed",
    ),
    Case(
        "start_that_makes_up_for_no_rounding",
        {"use_lora": True, "init_lora_weights": "loftq"},
        {"use_lora": True, "init_lora_weights": "loftq", "load_in_4bit": True},
        "no rounding to make up for",
    ),
    Case("details_alone", {"eaft_top_k": 5}, {"eaft_top_k": 5, "eaft_alpha": 1}, "without eaft_alpha would be ignored"),
    Case("details_alone", {"lisa_interval": 5}, {"lisa_interval": 5, "lisa_layers": 2}, "without lisa_layers"),
    Case(
        "ways_that_exclude_each_other",
        {"lisa_layers": 2, "trainable_layers": 1},
        {"lisa_layers": 2},
        "says itself which layers",
    ),
    Case(
        "ways_that_exclude_each_other",
        {"relora_steps": 2, "use_lora": True, "use_dora": True},
        {"relora_steps": 2, "use_lora": True},
        "of one adapter",
    ),
    Case("details_alone", {"relora_prune_ratio": 0.5}, {}, "without relora_steps"),
    Case("restarts_of_no_adapter", {"relora_steps": 2}, {"relora_steps": 2, "use_lora": True}, "no adapter to begin"),
    Case(
        "restarts_of_no_adapter",
        {"relora_steps": 2, "use_lora": True, "init_lora_weights": "pissa"},
        {"relora_steps": 2, "use_lora": True, "init_lora_weights": "default"},
        "begins with zeros",
    ),
    Case("restarts_without_room", {"lr_restart_steps": 10}, {"lr_restart_steps": 11}, "rise and fall take 11 steps"),
    Case(
        "ways_of_other_stages",
        {"relora_steps": 2, "use_lora": True, "stage": "dpo"},
        {"relora_steps": 2, "use_lora": True, "stage": "pretrain"},
        "those that are set aside would stay",
    ),
    Case(
        "ways_of_other_stages",
        {"eaft_alpha": 1, "stage": "dpo"},
        {"eaft_alpha": 1, "stage": "pretrain"},
        "two are compared",
    ),
    Case(
        "details_without_rounding",
        {"qat_activation_dtype": "int8"},
        {"qat_activation_dtype": "int8", "qat_weight_dtype": "int4"},
        "nothing is rounded",
    ),
    Case(
        "formats_that_do_not_go_together",
        {"qat_weight_dtype": "float8"},
        {"qat_weight_dtype": "float8", "qat_activation_dtype": "float8"},
        "choose float8 for",
    ),
    Case(
        "groups_of_another_size",
        {"qat_weight_dtype": "nvfp4", "qat_group_size": 32},
        {"qat_weight_dtype": "nvfp4", "qat_group_size": 16},
        "prescribes groups of 16",
    ),
    Case(
        "groups_of_another_size",
        {"qat_weight_dtype": "ternary", "qat_activation_dtype": "int8", "qat_group_size": 32},
        {"qat_weight_dtype": "int8", "qat_activation_dtype": "int8", "qat_group_size": 64},
        "has no groups",
    ),
    Case(
        "embedding_in_another_format",
        {"qat_weight_dtype": "nvfp4", "qat_embedding": True},
        {"qat_weight_dtype": "int4", "qat_embedding": True},
        "int4 and int8 only",
    ),
    Case("fewer_bits_under_an_adapter", {"use_lora": True, "keep_zeros": True}, {"keep_zeros": True}, "Keep one"),
    Case(
        "rounding_beside_a_reference",
        {"stage": "dpo", "qat_weight_dtype": "int8"},
        {"stage": "pretrain", "qat_weight_dtype": "int8"},
        "compared with itself",
    ),
    Case(
        "two_roundings",
        {"qat_weight_dtype": "int8", "float8_training": True},
        {"float8_training": True},
        "round the same products",
    ),
    Case("addresses", {"output_dir": "s3://bucket/run"}, {"output_dir": "bucket/run"}, "a path on this machine"),
    Case("addresses", {"data_path": [{"path": "http://a.example/b.json"}]}, {"data_path": "b.json"}, "a path on"),
    Case("addresses", {"model_name_or_path": "https://a.example/m"}, {"model_name_or_path": "a/m"}, "hub"),
    Case("placeholders", {"data_path": "${HOME}/d.jsonl"}, {"data_path": "~/d.jsonl"}, "nothing is filled in"),
    Case("two_precisions", {"fp16": True, "bf16": True}, {"fp16": True}, "only one of the two"),
    Case("two_precisions", {"fp16_full_eval": True, "bf16_full_eval": True}, {"bf16_full_eval": True}, "only one"),
    Case("half_precision_on_cpu", {"fp16": True, "use_cpu": True}, {"bf16": True, "use_cpu": True}, "needs a GPU"),
    Case("pure_float16_training", {"dtype": "float16"}, {"dtype": "float16", "use_lora": True}, "vanish"),
    Case("pure_float16_training", {"dtype": "half"}, {"dtype": "bfloat16"}, "vanish"),
    Case(
        "two_quantizations",
        {"use_lora": True, "load_in_4bit": True, "load_in_8bit": True},
        {"use_lora": True, "load_in_4bit": True},
        "choose one",
    ),
    Case("quantization_without_adapter", {"load_in_8bit": True}, {"load_in_8bit": True, "use_lora": True}, "use_lora"),
    Case(
        "quantized_experts_alone",
        {"quantize_experts": True},
        {"quantize_experts": True, "load_in_4bit": True, "use_lora": True},
        "Set load_in_4bit",
    ),
    Case("adapter_options_without_adapter", {"lora_r": 8}, {"lora_r": 8, "use_lora": True}, "would be ignored"),
    Case(
        "adapter_options_without_adapter", {"lora_r": 9, "use_lora": False}, {"lora_r": 8, "use_lora": False}, "ignored"
    ),
    Case("adapter_options_without_adapter", {"target_modules": "all-linear"}, {}, "would be ignored"),
    Case("freezing_with_adapter", {"use_lora": True, "trainable_layers": 1}, {"trainable_layers": 1}, "frozen"),
    Case(
        "freezing_with_adapter", {"use_lora": True, "trainable_modules": ["a"]}, {"use_lora": True}, "modules_to_save"
    ),
    Case("freezing_everything", {"trainable_layers": 0}, {"trainable_layers": -1}, "train nothing"),
    Case("freezing_everything", {"trainable_modules": []}, {"trainable_modules": ["a"]}, "train nothing"),
    Case(
        "unknown_initialisation",
        {"use_lora": True, "init_lora_weights": "pisa"},
        {"use_lora": True, "init_lora_weights": "pissa_niter_4"},
        "is unknown",
    ),
    Case(
        "unknown_initialisation",
        {"use_lora": True, "init_lora_weights": "eva"},
        {"use_lora": True, "init_lora_weights": "gaussian"},
        "options of its own",
    ),
    Case(
        "initialisation_that_changes_quantised_weights",
        {"use_lora": True, "init_lora_weights": "pissa", "load_in_4bit": True},
        {"use_lora": True, "init_lora_weights": "gaussian", "load_in_4bit": True},
        "not fit the model",
    ),
    Case("token_added_twice", {"added_tokens": ["a"], "added_special_tokens": ["a"]}, {"added_tokens": ["a"]}, "twice"),
    Case("token_added_twice", {"added_tokens": [""]}, {"added_tokens": ["a", "b"]}, "empty"),
    Case(
        "merged_folder_without_adapter",
        {"merged_dir": "m"},
        {"merged_dir": "m", "use_lora": True},
        "no adapter to merge",
    ),
    Case(
        "merged_folder_over_adapter",
        {"use_lora": True, "merged_dir": "x/m", "model_dir": "./x//m"},
        {"use_lora": True, "merged_dir": ".", "model_dir": "m"},
        "one folder",
    ),
    Case("folders_outside_run", {"model_dir": "/tmp/m"}, {"model_dir": "."}, "leaves output_dir"),
    Case("folders_outside_run", {"model_dir": "a/../../m"}, {"model_dir": "a/m"}, "leaves output_dir"),
    Case("folders_outside_run", {"model_dir": "checkpoint-1"}, {"model_dir": "checkpoints"}, "looks like a checkpoint"),
    Case(
        "output_over_input",
        {"model_name_or_path": "./m", "output_dir": "m/"},
        {"model_name_or_path": "./m", "output_dir": "m/tuned"},
        "own input",
    ),
    Case(
        "resume_from_what_is_removed",
        {"overwrite_output_dir": True, "output_dir": "o", "resume_from_checkpoint": "o/checkpoint-5"},
        {"overwrite_output_dir": True, "output_dir": "o", "resume_from_checkpoint": "p/checkpoint-5"},
        "removes",
    ),
    Case(
        "template_without_chat_template",
        {"chat_template": "qwen", "use_chat_template": False},
        {"packing": True, "use_chat_template": False},
        "would be ignored",
    ),
    Case("two_held_out_sets", {**EVAL, "validation_size": 0.1}, {"validation_size": 0.1}, "one of them"),
    Case("fractional_counts", {"save_steps": 10.5}, {"save_steps": 10.0}, "must be whole"),
    Case("fractional_counts", {"warmup_steps": 1.5}, {"warmup_steps": 0.5}, "must be whole"),
    Case("fractional_counts", {"validation_size": 1.5}, {"validation_size": 2}, "must be whole"),
    Case("no_steps", {"max_steps": 0}, {"max_steps": -1}, "trains nothing"),
    Case("evaluation_without_data", {"eval_steps": 500}, {**EVAL, "eval_steps": 500}, "without evaluation data"),
    Case(
        "evaluation_without_data",
        {"eval_strategy": "steps"},
        {"eval_strategy": "steps", "do_eval": False},
        "without evaluation data",
    ),
    Case("best_model_without_evaluation", {"load_best_model_at_end": True}, BEST, "evaluation loss to compare by"),
    Case("best_model_without_evaluation", {**BEST, "do_eval": False}, BEST, "evaluation loss to compare by"),
    Case("best_model_between_saves", {**BEST, "save_strategy": "epoch"}, BEST, "Make them equal"),
    Case(
        "best_model_between_saves",
        {**BEST, "save_steps": 500, "eval_steps": 200},
        {**BEST, "eval_steps": 250},
        "multiple",
    ),
    Case(
        "best_model_between_saves",
        {**BEST, "eval_steps": 0.1},
        {**BEST, "eval_steps": 0.1, "save_steps": 0.3},
        "multiple",
    ),
    Case(
        "early_stop_without_evaluation",
        {"early_stopping_patience": 3},
        {**EVAL, "early_stopping_patience": 3},
        "loss to watch",
    ),
    Case("unknown_files", {"also_write": ["plot"]}, {"also_write": ["loss_plot"]}, "plot is none of"),
    Case(
        "schedule_without_evaluation",
        {"lr_scheduler_type": "reduce_lr_on_plateau"},
        {**EVAL, "lr_scheduler_type": "reduce_lr_on_plateau"},
        "follows the evaluation loss",
    ),
    Case(
        "schedule_without_its_arguments",
        {"lr_scheduler_type": "cosine_with_min_lr"},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}},
        "needs lr_scheduler_kwargs",
    ),
    Case(
        "schedule_without_its_arguments",
        {"lr_scheduler_type": "warmup_stable_decay"},
        {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 10}},
        "num_decay_steps: 100",
    ),
    Case("unknown_to_transformers", {"optim": "adam"}, {"optim": "adafactor"}, "such as adamw_torch"),
    Case("unknown_to_transformers", {"lr_scheduler_type": "cosin"}, {"lr_scheduler_type": "linear"}, "such as cosine"),
    Case("unknown_trackers", {"report_to": "wanb"}, {"report_to": ["wandb", "tensorboard"]}, "no tracker"),
    Case("unknown_trackers", {"report_to": ["none", "wandb"]}, {"report_to": ["none"]}, "stands alone"),
    Case("unknown_columns", {"columns": {"question": "q"}}, {"columns": {"prompt": "question"}}, "no column"),
    Case(
        "unknown_special_tokens",
        {"special_tokens": {"eot_token": "</s>"}},
        {"special_tokens": {"eos_token": "</s>"}},
        "Keys are bos_token, eos_token, pad_token, unk_token",
    ),
    Case("unknown_roles", {"role_names": {"bot": "model"}}, {"role_names": {"bot": "assistant"}}, "cannot mean model"),
    Case("unusable_sources", {"data_path": []}, {"data_path": ["a", {"path": "b", "weight": 2}]}, "the list is empty"),
    Case("unusable_sources", {"data_path": ["a", {"weight": 2}]}, {"data_path": "a"}, "entry 2"),
    Case(
        "workers_that_are_not_there",
        {"dataloader_prefetch_factor": 2},
        {"dataloader_prefetch_factor": 2, "dataloader_num_workers": 1},
        "needs worker processes",
    ),
    Case("two_shardings", {"deepspeed": "z.json", "fsdp": "full_shard"}, {"deepspeed": {"zero": 3}}, "choose one"),
    Case(
        "shared_in_a_stage_that_cannot",
        {"stage": "dpo", "context_parallel_size": 2},
        {"stage": "dpo", "context_parallel_size": 1},
        "pairs are compared by each process whole",
    ),
    Case(
        "shared_by_two_engines",
        {"deepspeed": {"zero": 3}, "tensor_parallel_size": 2},
        {"deepspeed": {"zero": 3}, "context_parallel_size": 2},
        "choose one",
    ),
    Case(
        "quantised_and_shared",
        {"load_in_4bit": True, "use_lora": True, "expert_parallel_size": 2},
        {"load_in_4bit": True, "use_lora": True, "context_parallel_size": 2},
        "cannot be parted",
    ),
    Case(
        "shared_with_other_settings",
        {"dp_replicate_size": 2, "fsdp": "full_shard", "fsdp_config": {"version": 2, "activation_checkpointing": True}},
        {"dp_replicate_size": 2, "fsdp": "full_shard", "fsdp_config": {"version": 2, "reshard_after_forward": True}},
        "fsdp_config: activation_checkpointing = True does nothing",
    ),
    Case(
        "adapter_in_parted_layers",
        {"tensor_parallel_size": 2, "use_lora": True},
        {"expert_parallel_size": 2, "use_lora": True},
        "the matrices of an adapter",
    ),
    Case(
        "best_of_shared",
        {"expert_parallel_size": 2, "load_best_model_at_end": True, "validation_size": 4},
        {"context_parallel_size": 2, "load_best_model_at_end": True, "validation_size": 4},
        "cannot put a checkpoint back",
    ),
    Case(
        "added_rows_of_shared",
        {"tensor_parallel_size": 2, "added_tokens": ["<a>"]},
        {"context_parallel_size": 2, "added_tokens": ["<a>"]},
        "gets no more rows",
    ),
    Case(
        "context_without_its_attention",
        {"context_parallel_size": 2, "attn_implementation": "eager"},
        {"context_parallel_size": 2, "attn_implementation": "sdpa"},
        "attended to by sdpa",
    ),
    Case(
        "options_of_another_stage",
        {"isolate_documents": True},
        {"isolate_documents": True, "stage": "pretrain"},
        "belongs to stage pretrain",
    ),
    Case(
        "options_of_another_stage",
        {"dpo_beta": 0.3, "stage": "pretrain"},
        {"dpo_beta": 0.3, "stage": "dpo"},
        "belongs to stage dpo",
    ),
    Case(
        "options_without_meaning_in_the_stage",
        {"packing": True, "stage": "dpo"},
        {"packing": True},
        "pairs are not packed",
    ),
    Case(
        "options_without_meaning_in_the_stage",
        {"train_on": "last_answer", "stage": "pretrain"},
        {"train_on": "everything", "stage": "pretrain"},
        "every token is trained",
    ),
    Case(
        "options_without_meaning_in_the_stage",
        {"train_tasks": ["qmsum"], "stage": "dpo"},
        {"eval_tasks": ["qmsum"], "stage": "dpo"},
        "one answer, not two",
    ),
    Case(
        "columns_of_another_stage",
        {"columns": {"chosen": "better"}},
        {"columns": {"chosen": "better"}, "stage": "dpo"},
        "chosen is not read",
    ),
    Case(
        "columns_of_another_stage",
        {"columns": {"response": "a"}, "stage": "dpo"},
        {"columns": {"rejected": "a"}, "stage": "dpo"},
        "Name chosen and rejected",
    ),
    Case(
        "reference_that_the_adapter_changed",
        {"init_lora_weights": "pissa", "use_lora": True, "stage": "dpo"},
        {"init_lora_weights": "gaussian", "use_lora": True, "stage": "dpo"},
        "compared with itself",
    ),
    Case(
        "cutting_the_answers_off",
        {"overlong": "cut_end", "stage": "dpo"},
        {"overlong": "cut_start", "stage": "dpo"},
        "stand at the end",
    ),
    Case(
        "smoothing_that_the_loss_ignores",
        {"dpo_label_smoothing": 0.1, "stage": "dpo"},
        {"dpo_label_smoothing": 0.1, "dpo_loss_type": "robust", "stage": "dpo"},
        "is not used by dpo_loss_type",
    ),
    Case(
        "smoothing_out_of_range",
        {"dpo_loss_type": "exo_pair", "stage": "dpo"},
        {"dpo_loss_type": "exo_pair", "dpo_label_smoothing": 0.001, "stage": "dpo"},
        "needs dpo_label_smoothing above 0",
    ),
    Case(
        "smoothing_out_of_range",
        {"dpo_loss_type": "robust", "dpo_label_smoothing": 0.5, "stage": "dpo"},
        {"dpo_loss_type": "robust", "dpo_label_smoothing": 0.4, "stage": "dpo"},
        "must be below 0.5",
    ),
    Case(
        "prompt_without_room_for_an_answer",
        {"max_prompt_length": 512, "max_length": 512, "overlong": "cut_start", "stage": "dpo"},
        {"max_prompt_length": 511, "max_length": 512, "overlong": "cut_start", "stage": "dpo"},
        "no room for an answer",
    ),
    Case(
        "stream_without_an_end",
        {"stream_preparation": True},
        {"stream_preparation": True, "max_steps": 10},
        "Set max_steps",
    ),
    Case(
        "stream_in_another_stage",
        {"stream_preparation": True, "max_steps": 10, "stage": "pretrain"},
        {"max_steps": 10, "stage": "pretrain"},
        "Leave stream_preparation out",
    ),
    Case(
        "stream_of_batches_by_tokens",
        {"stream_preparation": True, "max_steps": 10, "tokens_per_batch": 4096},
        {"stream_preparation": True, "max_steps": 10, "packing": True},
        "the lengths of all rows",
    ),
    Case(
        "epochs_of_a_stream",
        {"stream_preparation": True, "max_steps": 10, "save_strategy": "epoch"},
        {"stream_preparation": True, "max_steps": 10, "save_strategy": "steps"},
        "Set save_strategy: steps",
    ),
    Case(
        "window_without_a_stream",
        {"stream_window": 100},
        {"stream_window": 100, "stream_preparation": True, "max_steps": 10},
        "would be ignored",
    ),
    Case(
        "batches_by_tokens_of_packed_rows",
        {"tokens_per_batch": 4096, "packing": True},
        {"tokens_per_batch": 4096},
        "nothing to sort",
    ),
    Case(
        "batches_by_tokens_elsewhere",
        {"tokens_per_batch": 4096, "stage": "dpo"},
        {"tokens_per_batch": 4096},
        "pairs of answers",
    ),
    Case(
        "batch_smaller_than_a_row",
        {"tokens_per_batch": 100, "max_length": 101},
        {"tokens_per_batch": 101, "max_length": 101},
        "would fit no batch",
    ),
    Case(
        "chosen_layers_without_checkpointing",
        {"gradient_checkpointing_every": 2},
        {"gradient_checkpointing_every": 2, "gradient_checkpointing": True},
        "no layer is recomputed",
    ),
    Case(
        "layers_chosen_twice",
        {"gradient_checkpointing_every": 2, "gradient_checkpointing_layers": [0], "gradient_checkpointing": True},
        {"gradient_checkpointing_layers": [0], "gradient_checkpointing": True},
        "which layers are recomputed",
    ),
    Case(
        "compiled_twice",
        {"compile_layers": True, "torch_compile": True},
        {"compile_layers": True},
        "the whole model",
    ),
    Case(
        "figures_of_another_loss",
        {"log_token_figures": True, "stage": "dpo"},
        {"log_token_figures": True},
        "figures of its own",
    ),
    Case(
        "prompt_limit_not_used",
        {"max_prompt_length": 256, "stage": "dpo"},
        {"max_prompt_length": 256, "overlong": "cut_start", "stage": "dpo"},
        "no prompt is cut",
    ),
]

SURPRISES = [
    Case("epochs_beside_steps", {"max_steps": 5, "num_train_epochs": 3}, {"max_steps": 5}, "num_train_epochs = 3"),
    Case(
        "intervals_not_used", {"save_strategy": "epoch", "save_steps": 5}, {"save_strategy": "epoch"}, "save_steps = 5"
    ),
    Case(
        "warm_up_not_used",
        {"lr_scheduler_type": "constant", "warmup_steps": 5},
        {"lr_scheduler_type": "constant"},
        "constant_with_warmup",
    ),
    Case(
        "warm_up_to_the_end", {"max_steps": 5, "warmup_steps": 6}, {"max_steps": 5, "warmup_steps": 4}, "never reaches"
    ),
    Case("evaluation_switched_off", {**EVAL, "do_eval": False}, EVAL, "is not evaluated: do_eval"),
    Case(
        "strategy_of_the_loss_alone",
        {"eval_tasks": ["qmsum"], "eval_strategy": "epoch", "eval_steps": 50},
        {"eval_tasks": ["qmsum"], "eval_steps": 50},
        "eval_tasks are asked at step 0, every 50 steps",
    ),
    Case(
        "evaluation_switched_off",
        {"validation_size": 0.1, "eval_strategy": "no"},
        {"eval_strategy": "no"},
        "eval_strategy",
    ),
    Case(
        "batch_size_not_used",
        {"tokens_per_batch": 4096, "per_device_train_batch_size": 8},
        {"tokens_per_batch": 4096},
        "makes the batches",
    ),
    Case(
        "evaluation_on_training_data",
        {"data_path": "e.jsonl", **EVAL},
        {"data_path": "d.jsonl", **EVAL},
        "training data",
    ),
    Case(
        "questions_not_asked", {"gen_every_n_steps": 5}, {"gen_every_n_steps": 5, "gen_questions_file": "q"}, "not used"
    ),
    Case(
        "shape_of_a_loaded_adapter",
        {"use_lora": True, "adapter_name_or_path": "a", "lora_r": 8},
        {"use_lora": True, "adapter_name_or_path": "a"},
        "brings its own",
    ),
    Case(
        "quantisation_details_not_used",
        {"bnb_4bit_quant_type": "fp4"},
        {"bnb_4bit_quant_type": "fp4", "load_in_4bit": True, "use_lora": True},
        "is not used",
    ),
    Case(
        "checkpointing_arguments_not_used",
        {"gradient_checkpointing_kwargs": {"use_reentrant": False}},
        {"gradient_checkpointing_kwargs": {"use_reentrant": False}, "gradient_checkpointing": True},
        "is not used",
    ),
    Case(
        "dropout_not_used",
        {"lora_dropout": 0.1, "use_lora": True, "stage": "dpo"},
        {"lora_dropout": 0.1, "use_lora": True},
        "without dropout",
    ),
]


def identify(case: Case) -> str:
    return f"{case.rule}-{'-'.join(case.breaks)}"


@pytest.mark.parametrize("case", PROBLEMS, ids=identify)
def test_problem(case: Case) -> None:
    with pytest.raises(ConfigError) as caught:
        SFTConfig(**case.breaks)
    assert len(caught.value.problems) == 1
    assert case.says in caught.value.problems[0]
    SFTConfig(**case.keeps)


@pytest.mark.parametrize("case", SURPRISES, ids=identify)
def test_surprise(case: Case) -> None:
    notes = SFTConfig(**case.breaks).notes
    assert len(notes) == 1
    assert case.says in notes[0]
    assert SFTConfig(**case.keeps).notes == ()


def test_every_rule_has_a_case() -> None:
    assert {case.rule for case in PROBLEMS} == {rule.__name__ for rule in RULES}
    assert {case.rule for case in SURPRISES} == {rule.__name__ for rule in REMARKS}


def test_a_rule_is_silent_about_a_value_that_is_wrong_already() -> None:
    with pytest.raises(ConfigError) as caught:
        SFTConfig(use_lora="perhaps", lora_r=16, load_in_4bit=True)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("use_lora = 'perhaps'")


def test_no_data() -> None:
    with pytest.raises(ConfigError, match="data_path is missing"):
        require_data(SFTConfig())
    require_data(SFTConfig(data_path="d.jsonl"))


@pytest.mark.parametrize("case", PROBLEMS, ids=identify)
def test_transformers_accepts_what_the_rules_accept(case: Case, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No rule may lead a user to values that TrainingArguments refuses."""
    from transformers import TrainingArguments

    config = SFTConfig(**case.keeps)
    known = TrainingArguments.__dataclass_fields__
    values = {name: value for name, value in config.to_dict().items() if name in known}
    if "deepspeed" in values:
        pytest.skip("deepspeed looks for its own package")
    evaluates = bool(config.eval_data_path or config.validation_size) and config.do_eval
    values |= {"report_to": "none", "eval_strategy": config.eval_strategy if evaluates else "no"}
    values |= {"use_cpu": True, "output_dir": str(tmp_path_factory.mktemp("run")), "gradient_checkpointing": None}
    assert TrainingArguments(**values).max_steps == config.max_steps
