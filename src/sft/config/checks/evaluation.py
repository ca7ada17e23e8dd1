"""Rules about what is measured while a model is trained, and what is made to depend on it."""

from __future__ import annotations

from collections.abc import Iterator

from sft.config.candidate import Candidate

EVAL_TASK_OPTIONS = (
    "eval_samples",
    "eval_max_prompt_tokens",
    "eval_engine",
    "eval_engine_python",
    "eval_engine_url",
    "eval_engine_args",
    "truthfulqa_scorer",
    "bleurt_checkpoint",
    "combined_weights",
    "allow_contamination",
)


def has_evaluation_data(candidate: Candidate) -> bool:
    return bool(candidate.eval_data_path) or candidate.validation_size > 0


def evaluates(candidate: Candidate) -> bool:
    """Whether an evaluation loss will be computed."""
    return bool(candidate.do_eval) and candidate.eval_strategy != "no" and has_evaluation_data(candidate)


def evaluation_without_data(candidate: Candidate) -> Iterator[str]:
    measured = has_evaluation_data(candidate) or candidate.eval_tasks
    if measured or not candidate.do_eval or candidate.eval_strategy == "no":
        return
    for name in ("eval_strategy", "eval_steps"):
        if candidate.is_given(name) and not candidate.load_best_model_at_end:
            yield (
                f"{candidate.at(name)} without evaluation data would be ignored. Give eval_data_path, "
                f"validation_size or eval_tasks, or leave {name} out."
            )


def task_options_without_tasks(candidate: Candidate) -> Iterator[str]:
    if candidate.eval_tasks:
        return
    for name in EVAL_TASK_OPTIONS:
        if candidate.is_given(name):
            yield f"{candidate.at(name)} without eval_tasks would be ignored. Name the tasks, or leave it out."


def served_engine_without_adapter(candidate: Candidate) -> Iterator[str]:
    if candidate.eval_tasks and candidate.eval_engine != "in_process" and not candidate.use_lora:
        yield (
            f"{candidate.at('eval_engine')} without use_lora: a server is told of each new adapter, and a full "
            "fine-tuning has none. Set use_lora, or eval_engine: in_process."
        )


def best_model_without_evaluation(candidate: Candidate) -> Iterator[str]:
    if candidate.load_best_model_at_end and not evaluates(candidate):
        yield (
            f"{candidate.at('load_best_model_at_end')} needs an evaluation loss to compare by. Give eval_data_path or "
            "validation_size, with do_eval true and an eval_strategy other than no."
        )


def best_model_between_saves(candidate: Candidate) -> Iterator[str]:
    """Only checkpoints that were evaluated can be the best one."""
    if not candidate.load_best_model_at_end or candidate.eval_strategy == "no":
        return
    if candidate.save_strategy != candidate.eval_strategy:
        yield (
            f"{candidate.at('load_best_model_at_end')} needs checkpoints where it evaluates, but "
            f"{candidate.at('save_strategy')} and {candidate.at('eval_strategy')}. Make them equal."
        )
    elif candidate.save_strategy == "steps" and not _is_multiple(candidate.save_steps, candidate.eval_steps):
        yield (
            f"{candidate.at('load_best_model_at_end')} needs an evaluation at every checkpoint, but "
            f"{candidate.at('save_steps')} is no multiple of {candidate.at('eval_steps')}."
        )


def early_stop_without_evaluation(candidate: Candidate) -> Iterator[str]:
    if candidate.early_stopping_patience is not None and not evaluates(candidate):
        yield (
            f"{candidate.at('early_stopping_patience')} needs an evaluation loss to watch. Give eval_data_path or "
            "validation_size, with do_eval true and an eval_strategy other than no."
        )


def schedule_without_evaluation(candidate: Candidate) -> Iterator[str]:
    if candidate.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy") and not evaluates(candidate):
        yield (
            f"{candidate.at('lr_scheduler_type')} follows the evaluation loss, and there is none. Give eval_data_path "
            "or validation_size, or choose another schedule."
        )


def evaluation_switched_off(candidate: Candidate) -> Iterator[str]:
    if has_evaluation_data(candidate) and not (candidate.do_eval and candidate.eval_strategy != "no"):
        name = "eval_data_path" if candidate.eval_data_path else "validation_size"
        switch = "eval_strategy" if candidate.do_eval else "do_eval"
        yield f"{candidate.at(name)} is not evaluated: {candidate.at(switch)}"


def strategy_of_the_loss_alone(candidate: Candidate) -> Iterator[str]:
    if candidate.eval_tasks and candidate.eval_strategy != "steps":
        yield (
            f"{candidate.at('eval_strategy')} is of the evaluation loss: eval_tasks are asked at step 0, every "
            f"{candidate.eval_steps:g} steps (eval_steps) and at the end"
        )


def questions_not_asked(candidate: Candidate) -> Iterator[str]:
    for name in ("gen_every_n_steps", "gen_max_new_tokens"):
        if candidate.is_given(name) and candidate.gen_questions_file is None:
            yield f"{candidate.at(name)} is not used: there is no gen_questions_file"


def _is_multiple(save_steps: float, eval_steps: float) -> bool:
    """Shares are compared as transformers does, in millionths; a share and a count cannot be compared."""
    if (save_steps < 1) != (eval_steps < 1):
        return False
    return round(save_steps * 1_000_000) % round(eval_steps * 1_000_000) == 0


EVALUATION_RULES = (
    evaluation_without_data,
    task_options_without_tasks,
    served_engine_without_adapter,
    best_model_without_evaluation,
    best_model_between_saves,
    early_stop_without_evaluation,
    schedule_without_evaluation,
)
EVALUATION_REMARKS = (
    evaluation_switched_off,
    strategy_of_the_loss_alone,
    questions_not_asked,
)
