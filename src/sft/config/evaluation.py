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
    gen_questions_file: str | None = option(
        None,
        "Text file, one question a line, answered every gen_every_n_steps into output_dir/gen_results/gen_step_N.json.",
    )
    gen_every_n_steps: int = option(20, "Steps between the answers to gen_questions_file.", minimum=1)
    gen_max_new_tokens: int = option(256, "Most tokens in one generated answer.", minimum=1)
