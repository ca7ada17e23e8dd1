#!/usr/bin/env bash
# Fine-tune a model with a LoRA adapter: `bash sft_train.sh`. Change the values below, or give them from outside:
#   MODEL=models/Qwen3-14B NPROC_PER_NODE=2 bash sft_train.sh --lora_rank 32 --learning_rate 1e-4
# Words given so replace those below. README.md explains them; `--deepspeed none` trains without DeepSpeed.
set -euo pipefail

MODEL="${MODEL:-xxxx/Qwen3-8B}"
GPUS="$(nvidia-smi -L 2>/dev/null | wc -l || true)" # 0 where there is none; one process then trains on the CPU
NPROC_PER_NODE="${NPROC_PER_NODE:-$((GPUS > 4 ? 4 : GPUS > 0 ? GPUS : 1))}"

words=(
    --model_name_or_path "$MODEL"
    --trust_remote_code True
    --stage sft
    --do_train True
    --finetuning_type lora
    --lora_rank 64
    --lora_alpha 128
    --lora_dropout 0.05
    --lora_target all
    --dataset "${DATASET:-qwen3_alpaca}"
    --template "${TEMPLATE:-qwen}"
    --cutoff_len 20480
    --overwrite_cache True
    --preprocessing_num_workers 8
    --dataloader_num_workers 4
    --output_dir "${OUTPUT_DIR:-$MODEL-lora}"
    --logging_steps 10
    --save_steps 100
    --plot_loss True
    --overwrite_output_dir True
    --save_only_model False
    --report_to tensorboard
    --per_device_train_batch_size 2
    --gradient_accumulation_steps 8
    --learning_rate 5e-5
    --num_train_epochs 3.0
    --lr_scheduler_type cosine
    --warmup_ratio 0.1
    --max_grad_norm 1.0
    --bf16 True
    --fp16 False
    --gradient_checkpointing True
    --ddp_timeout 180000000
    --torch_compile False
    --deepspeed "${DEEPSPEED:-ds_z3_config.json}"
)

without() { # take one of the words above out, with its value
    local kept=() place
    for ((place = 0; place < ${#words[@]}; place += 2)); do
        [[ "${words[place]}" == "$1" ]] || kept+=("${words[@]:place:2}")
    done
    words=("${kept[@]}")
}

for word in "$@"; do
    [[ "$word" == --* ]] && without "${word%%=*}"
done

exec "${PYTHON:-python}" -m sft.cli.launcher --nproc_per_node="$NPROC_PER_NODE" \
    --master_port="${MASTER_PORT:-29501}" -m sft train --dialect llama_factory "${words[@]}" "$@"
