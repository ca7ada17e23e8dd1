"""What LLaMA-Factory's keys are called here, and why some are ignored or refused. Tables only.

Names, defaults and meanings: https://github.com/hiyouga/LLaMA-Factory, ``src/llamafactory/hparams`` at ff6d4d12.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STAGES: Mapping[str, str] = {"sft": "sft", "pt": "pretrain", "dpo": "dpo"}
OTHER_STAGES: Mapping[str, str] = {
    "rm": "reward models are not trained here",
    "ppo": "reinforcement learning is not done here",
    "kto": "KTO is not done here; pairs of answers are trained by stage: dpo",
}

NAMES: Mapping[str, str] = {
    "cutoff_len": "max_length",
    "default_system": "system_prompt",
    "val_size": "validation_size",
    "early_stopping_steps": "early_stopping_patience",
    "enable_liger_kernel": "use_liger_kernel",
    "pref_beta": "dpo_beta",
    "freeze_trainable_layers": "trainable_layers",
}
"""Keys that mean one of our options."""

LORA_NAMES: Mapping[str, str] = {
    "lora_rank": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "lora_target": "target_modules",
    "additional_target": "modules_to_save",
}
QUANTIZATION_NAMES: Mapping[str, str] = {
    "quantization_type": "bnb_4bit_quant_type",
    "double_quantization": "bnb_4bit_use_double_quant",
}
ATTENTION: Mapping[str, str] = {
    "fa2": "flash_attention_2",
    "fa3": "flash_attention_3",
    "sdpa": "sdpa",
    "disabled": "eager",
}

MODEL_HUB = "set the environment variable HF_HOME to keep models elsewhere"
OWN_CACHE = "prepared data is kept by content and found again, in cache_dir; what the original saved is not read"
ONE_PROCESS = "data is prepared once, before training, and kept"
ANSWERING = "it decides how a model answers, not how it is trained"
LEFT_TO_TORCHRUN = "it counts under USE_RAY=1 only; here the launcher says how many processes there are"
PICTURES = "rows with images, videos or audio are refused, so nothing is left for it to decide"

IGNORED: Mapping[str, str] = {
    "adapter_folder": "the name on the hub or the folder says it all",
    "aqlm_optimization": "kernels change the speed only",
    "buffer_size": "nothing is streamed: data is prepared once and mapped from disk",
    "cache_dir": MODEL_HUB,
    "data_shared_file_system": "each machine prepares the data or finds it in its cache",
    "do_sample": ANSWERING,
    "eval_num_beams": ANSWERING,
    "generation_config": ANSWERING,
    "generation_max_length": ANSWERING,
    "generation_num_beams": ANSWERING,
    "ignore_pad_token_for_loss": "padding never carries loss",
    "include_effective_tokens_per_second": "tokens per second are always measured",
    "infer_backend": ANSWERING,
    "infer_dtype": ANSWERING,
    "length_penalty": ANSWERING,
    "low_cpu_mem_usage": "weights are always loaded so",
    "max_length": ANSWERING + "; cutoff_len is the length of examples",
    "max_new_tokens": ANSWERING,
    "media_dir": PICTURES,
    "num_beams": ANSWERING,
    "offload_folder": ANSWERING,
    "preprocessing_batch_size": ONE_PROCESS,
    "preprocessing_num_workers": ONE_PROCESS,
    "print_param_status": "`sft plan` shows what is trained",
    "repetition_penalty": ANSWERING,
    "resize_vocab": "rows are added to the embeddings whenever the tokenizer needs them",
    "skip_special_tokens": ANSWERING,
    "sortish_sampler": "rows are shuffled by seed",
    "streaming": "all rows are prepared before training and mapped from disk, so memory does not limit them",
    "temperature": ANSWERING,
    "tokenized_path": OWN_CACHE,
    "top_k": ANSWERING,
    "top_p": ANSWERING,
    "upcast_lmhead_output": "the loss is computed in float32",
    "use_fast_tokenizer": "fast tokenizers are always used",
    "use_kv_cache": "training has no use for it",
    "use_reentrant_gc": "checkpointing is not re-entrant here; the gradients are the same",
    "use_v1_kernels": "its kernels change the speed only",
    "use_unsloth": "its kernels train the same, faster; those of transformers are used",
    "use_unsloth_gc": "its checkpointing computes the same; gradient checkpointing is on without it",
}
"""Keys whose value changes nothing here, whatever it is."""

SWITCHES: Mapping[str, str] = {
    "compute_accuracy": "token accuracy is not computed; the evaluation loss is",
    "create_new_adapter": "a second adapter over a merged first is not trained. Merge the first (sft merge)",
    "crop_to_patches": "images are not trained on",
    "disable_shuffling": "rows are always shuffled by seed",
    "do_predict": "answers to a file are written by `sft evaluate`, or while training by gen_questions_file",
    "enable_torch_profiler": "there is no profiler",
    "eval_on_each_dataset": "there is one evaluation loss over all evaluation data",
    "export_legacy_format": "weights are always saved as safetensors",
    "fp8": "8-bit floating point is not trained in. Use bf16",
    "fp8_enable_fsdp_float8_all_gather": "8-bit floating point is not trained in",
    "freeze_language_model": "nothing would be left to train in a text model",
    "image_do_pan_and_scan": "images are not trained on",
    "kt_use_lora_experts": "KTransformers is not used here",
    "preserve_thinking": "what an answer sees of earlier thoughts is what its chat template writes",
    "predict_with_generate": "answers are scored by `sft evaluate`, or while training by eval_tasks",
    "shift_attn": "shifted attention (LongLoRA) would train another attention than the model answers with",
    "train_from_scratch": "only trained models are fine-tuned",
    "upcast_layernorm": "weights of the base model have one precision. Write dtype: float32 for all of them",
    "use_adam_mini": "the optimizer Adam-mini is not here. Choose one with optim",
    "use_apollo": "the optimizer APOLLO is not here. LoRA saves memory too",
    "use_asft_loss": "the loss is cross-entropy",
    "use_audio_in_video": "videos are not trained on",
    "use_badam": "the optimizer BAdam is not here. LoRA and trainable_layers save memory too",
    "use_dft_loss": "the loss is cross-entropy",
    "use_galore": "the optimizer GaLore is not here. LoRA saves memory too",
    "use_hyper_parallel": "HyperParallel is not used here. Use deepspeed or fsdp",
    "use_kt": "KTransformers is not used here. Quantise (quantization_bit: 4) or shard (deepspeed) to save memory",
    "use_llama_pro": "layers are not added to models. Train some of its own with freeze_trainable_layers",
    "use_mca": "Megatron is not used here. Use deepspeed or fsdp",
    "use_megatron_bridge": "Megatron is not used here. Use deepspeed or fsdp",
    "use_muon": "the optimizer Muon is not here. Choose one with optim",
    "use_swanlab": "write report_to: swanlab",
}
"""Keys that are refused when they are switched on, and mean nothing when they are off."""

REFUSED: Mapping[str, str] = {
    "export_dir": "belongs to an export, which `sft export FILE` does",
    "export_quantization_bit": "a model is not quantised on export",
    "hf_hub_token": "a token does not belong into a configuration. Set the environment variable HF_TOKEN",
    "interleave_probs": "data sets are not drawn from by probability. Give data_path entries a weight each",
    "kt_config": "KTransformers is not used here",
    "ld_alpha": "long answers are not discounted in DPO",
    "mixture_of_depths": "mixture-of-depths models are not trained here",
    "moe_aux_loss_coef": "write it into the model's config.json (router_aux_loss_coef)",
    "ms_hub_token": "ModelScope is not read from",
    "new_special_tokens_config": "new tokens begin at the mean of all. Name them with add_special_tokens",
    "om_hub_token": "Modelers is not read from",
    "quantization_device_map": "each process holds the whole quantised model",
    "ref_model_adapters": "the reference of DPO is the model before training",
    "ref_model_quantization_bit": "the reference of DPO is the model before training, held as that is",
    "rope_scaling": "write it into the model's config.json (rope_scaling)",
}
"""Keys that are refused whatever their value is."""

MEGATRON = (
    "account_for_embedding_in_pipeline_split", "account_for_loss_in_pipeline_split", "apply_rope_fusion",
    "bias_activation_fusion", "calculate_per_token_loss", "context_parallel_size", "cross_entropy_loss_fusion",
    "expert_model_parallel_size", "export_hf_on_finish", "extra_config", "masked_softmax_fusion",
    "megatron_pretrained_checkpoint", "mixed_precision", "moe_grouped_gemm", "moe_token_dispatcher_type",
    "overlap_grad_reduce", "overlap_param_gather", "pipeline_model_parallel_size", "recompute_granularity",
    "recompute_method", "recompute_num_layers", "sequence_parallel", "tensor_model_parallel_size",
    "use_distributed_optimizer", "use_packed_sequences", "virtual_pipeline_model_parallel_size",
)  # fmt: skip
"""Settings of Megatron, which are refused: without it there is no such parallelism."""

ALLOWED_VALUES: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "quantization_method": (
        ("bnb", "bitsandbytes"),
        "only bitsandbytes quantises here. Write quantization_method: bnb",
    ),
    "init_special_tokens": (("noise_init",), "new tokens begin at the mean of all"),
    "loraplus_lr_embedding": ((1e-6,), "embeddings under LoRA+ have their own rate, which is 1e-6"),
    "mix_strategy": (("concat",), "data sets are joined. To see one more often, give data_path entries a weight each"),
    "tool_format": ((), "the chat template decides how tools are written; leave it out"),
    "pref_ftx": ((0,), "DPO is trained without a part of the supervised loss"),
    "pref_bco_weight": ((0,), "DPO is trained without a part of the BCO loss"),
    "dpo_label_smoothing": ((0,), "LLaMA-Factory's loss for it is another than ours (dpo_loss_type robust)"),
    "module_dropout": ((0,), "it belongs to OFT, which is not trained here"),
}
"""Keys that are fine with the values that ask for what is done anyway."""

FAMILIES: Mapping[str, str] = {
    "galore_": "GaLore",
    "apollo_": "APOLLO",
    "badam_": "BAdam",
    "asft_": "the ASFT loss",
    "fp8_": "training in 8-bit floating point",
    "kt_": "KTransformers",
    "oft_": "OFT",
    "hyper_parallel_": "HyperParallel",
    "swanlab_": "LLaMA-Factory's own use of SwanLab",
    "profiler_": "the profiler",
    "profile_modules": "the profiler",
    "kto_": "stage kto",
    "ppo_": "stage ppo",
    "reward_model": "stage ppo",
    "simpo_": "the SimPO loss",
}
"""Beginnings of keys that belong to something with a switch of its own, which is what is refused."""

PREFIXES: Mapping[str, str] = {
    "vllm_": ANSWERING,
    "sglang_": ANSWERING,
    "export_": "it belongs to an export, which `sft export FILE` does",
    "ray_": LEFT_TO_TORCHRUN,
    "master_": LEFT_TO_TORCHRUN,
    "image_": PICTURES,
    "video_": PICTURES,
    "audio_": PICTURES,
    "freeze_vision_": "text models have no such part",
    "freeze_multi_modal_": "text models have no such part",
}
"""Beginnings of keys that are ignored."""

TEMPLATES: Mapping[str, str] = {"default": "llama_factory_default"}
"""Templates whose text is another under the same name here; all other names are the same."""

_MULTIMODAL = """
dots_ocr ernie_vl gemma3n gemma4 gemma4n glm4v glm4_5v glm_ocr granite3_vision intern_vl intern_s1 keye_vl
kimi_vl lfm2_vl llama4 mllama moss_vl llava llava_next llava_next_llama3 llava_next_mistral llava_next_qwen
llava_next_yi llava_next_video llava_next_video_mistral llava_next_video_yi mimo_vl minicpm_v minicpm_v_4_6
minicpm_o mistral_small ministral3 paligemma paligemma_chat pixtral qwen2_audio qwen2_omni qwen3_omni
qwen3_omni_nothink qwen2_vl qwen3_vl qwen3_vl_nothink qwen3_5 qwen3_5_nothink qwen3_6 video_llava yi_vl youtu_vl
"""
MULTIMODAL_TEMPLATES = frozenset(_MULTIMODAL.split())
"""Names of its templates for models that see or hear."""

DEFAULTS: Mapping[str, tuple[Any, str]] = {
    "max_length": (2048, "cutoff_len unasked"),
    "num_train_epochs": (3.0, "as the original unasked"),
    "per_device_train_batch_size": (8, "as the original unasked"),
    "per_device_eval_batch_size": (8, ""),
    "gradient_accumulation_steps": (1, "as the original unasked"),
    "learning_rate": (5e-5, "as the original unasked"),
    "lr_scheduler_type": ("linear", "as the original unasked"),
    "warmup_steps": (0, "as the original unasked"),
    "logging_steps": (500, "as the original unasked"),
    "save_total_limit": (None, "every checkpoint is kept"),
    "gradient_checkpointing": (True, "on unless disable_gradient_checkpointing is true"),
    "model_dir": (".", "model or adapter and tokenizer lie in output_dir itself"),
}
"""What LLaMA-Factory and the training arguments under it do unasked."""

LORA_DEFAULTS: Mapping[str, tuple[Any, str]] = {
    "lora_r": (8, "as the original unasked"),
    "lora_dropout": (0.0, ""),
    "target_modules": ("all-linear", "every linear layer but the output"),
}
FILES = ["trainer_log", "results", "trainer_state"]
"""What LLaMA-Factory writes beside the model, unasked."""

TEXT_DEFAULTS: Mapping[str, tuple[Any, str]] = {
    "overlong": (
        "drop",
        "rows longer than cutoff_len are left out and counted; the original cut the end of prompts (where the question "
        "stands) and of answers (with their end token). overlong: cut_start keeps the last turns",
    ),
    "input_separator": ("\n", "one line end between instruction and input, as the original writes"),
    "allow_special_tokens": (
        False,
        "special-token text inside messages stays text; in the original it controls, unless split_special_tokens",
    ),
}
"""What holds for conversations, in stages sft and dpo."""
