#!/usr/bin/env bash
# Train with settings from the environment: MODEL_NAME=... GPU=0,1 MAX_STEPS=200 ./run_train.sh [--key value ...]
# Words given so replace those below. Started again, it goes on from its last checkpoint. README.md explains each variable.
set -euo pipefail

GPU="${GPU-2,3}" # set and empty: what is there
EVAL_STEPS="${EVAL_STEPS:-20}"

words=(
    --model_name "${MODEL_NAME:-Qwen/Qwen3-0.6B}"
    --gpu "$GPU"
    --num_epochs "${NUM_EPOCHS:-3}"
    --max_steps "${MAX_STEPS:-200}"
    --eval_steps "$EVAL_STEPS"
    --save_steps "${SAVE_STEPS:-$EVAL_STEPS}"
    --batch_size "${BATCH_SIZE:-4}"
    --gradient_accumulation_steps "${GRAD_ACCUM:-8}"
    --max_length "${MAX_LENGTH:-10000}"
    --output_dir "${OUTPUT_DIR:-./training_output9}"
    --train_datasets "${TRAIN_DATASETS:-qmsum,trivia_qa}"
    --lora_r "${LORA_R:-16}"
    --lora_alpha "${LORA_ALPHA:-32}"
)
if [[ -n "${EVAL_SAMPLES:-}" ]]; then
    words+=(--eval_samples "$EVAL_SAMPLES")
fi

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

exec "${PYTHON:-python}" "$(dirname "${BASH_SOURCE[0]}")/train.py" "${words[@]}" "$@"
