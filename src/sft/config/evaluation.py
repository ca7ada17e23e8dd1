"""What is measured while training."""

from __future__ import annotations

from dataclasses import dataclass

from sft.config.option import option


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Evaluation loss and generated samples."""

    do_eval: bool = option(True, "Compute the evaluation loss where there is evaluation data.")
    eval_strategy: str = option(
        "steps", "When: every eval_steps, every epoch, or never.", choices=["steps", "epoch", "no"]
    )
    eval_steps: float = option(500, "Steps between evaluations: below 1 a share of all steps.", above=0)
    per_device_eval_batch_size: int = option(4, "Examples per device and forward pass in evaluation.", minimum=1)
    load_best_model_at_end: bool = option(False, "End with the checkpoint of the lowest evaluation loss, not the last.")
    early_stopping_patience: int | None = option(
        None, "Evaluations in a row without a lower evaluation loss after which training ends. Unset: never.", minimum=1
    )
    gen_questions_file: str | None = option(
        None,
        "Text file, one question a line, answered into output_dir/gen_results/gen_step_N.json: at step 0 (the "
        "untrained model), every gen_every_n_steps and after the last step.",
    )
    gen_every_n_steps: int = option(20, "Steps between the answers to gen_questions_file.", minimum=1)
    gen_max_new_tokens: int = option(256, "Most tokens in one generated answer.", minimum=1)
    eval_tasks: list[str] = option(
        [],
        "Tasks that the model is asked and scored on by generation: qmsum, truthfulqa, longbench, longbench/NAME, ... "
        "At step 0 (the untrained model), every eval_steps and at the end; the best by the combined score is kept.",
    )
    eval_samples: int | None = option(
        None, "Rows asked of each task; the results are marked partial. Unset: all of them.", minimum=1
    )
    eval_max_prompt_tokens: int | None = option(
        None,
        "Longest prompt of a task in tokens; a longer one loses its middle. Unset: what the model's context leaves "
        "beside the answer.",
        minimum=2,
    )
    eval_engine: str = option(
        "in_process",
        "What answers the tasks: this process, an SGLang or vLLM server that is started for it, or a server that "
        "speaks OpenAI's completions.",
        choices=["in_process", "sglang", "vllm", "openai"],
    )
    eval_engine_python: str | None = option(
        None, "Python interpreter of the environment that SGLang or vLLM is installed in. Unset: this one."
    )
    eval_engine_url: str | None = option(None, "Address of a server that runs already. Unset: one is started.")
    eval_engine_args: list[str] = option([], "More words for the command line of the server that is started.")
    truthfulqa_scorer: str = option(
        "rougeL", "What TruthfulQA's answers are compared with.", choices=["rougeL", "bleu", "bleurt"]
    )
    bleurt_checkpoint: str | None = option(
        None, "Sequence-classification checkpoint, folder or hub name, for the scorer bleurt."
    )
    combined_weights: dict[str, float] = option(
        {}, "Weights of accuracy, rougeL and avg_max_score in the combined score. Unset: 1 each."
    )
    longbench_dir: str | None = option(
        None, "LongBench as a folder of jsonl files or its data.zip. Unset: $SFT_LONGBENCH_DIR, else the hub."
    )
    qmsum_dir: str | None = option(
        None, "QMSum as a folder with train.jsonl, val.jsonl and test.jsonl. Unset: $SFT_QMSUM_DIR."
    )
    truthfulqa_file: str | None = option(None, "TruthfulQA as its CSV file. Unset: $SFT_TRUTHFULQA_FILE, else the hub.")
