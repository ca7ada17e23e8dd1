"""Rules about the length of a training, its learning rate and its workers."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from sft.config.candidate import Candidate
from sft.config.training_arguments import installed_enumerations

STEP_OPTIONS = ("warmup_steps", "logging_steps", "eval_steps", "save_steps")


def fractional_counts(candidate: Candidate) -> Iterator[str]:
    for name in (*STEP_OPTIONS, "validation_size"):
        value = getattr(candidate, name)
        if isinstance(value, float) and value > 1 and not value.is_integer():
            yield f"{candidate.at(name)}: from 1 on it is a count and must be whole; below 1 it is a share."


def no_steps(candidate: Candidate) -> Iterator[str]:
    if candidate.max_steps == 0:
        yield f"{candidate.at('max_steps')} trains nothing. Give at least 1, or -1 to go by num_train_epochs."


def schedule_without_its_arguments(candidate: Candidate) -> Iterator[str]:
    needed = {
        "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
        "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate"),
        "warmup_stable_decay": ("num_decay_steps",),
    }
    keys = needed.get(candidate.lr_scheduler_type)
    given = candidate.lr_scheduler_kwargs or {}
    if keys and not any(key in given for key in keys):
        yield (
            f"{candidate.at('lr_scheduler_type')} needs lr_scheduler_kwargs with {' or '.join(keys)}, such as "
            f"lr_scheduler_kwargs: {{{keys[-1]}: {100 if keys[-1] == 'num_decay_steps' else 0.1}}}."
        )


def unknown_to_transformers(candidate: Candidate) -> Iterator[str]:
    """Names that the installed transformers would refuse once the model is loaded."""
    enumerations = installed_enumerations()
    for name, owner in (("lr_scheduler_type", "SchedulerType"), ("optim", "OptimizerNames")):
        known = enumerations.get(owner, ())
        if known and candidate.differs(name) and getattr(candidate, name) not in known:
            near = ", ".join(_similar(str(getattr(candidate, name)), known))
            yield f"{candidate.at(name)} is not among the {len(known)} that transformers knows, such as {near}."


def workers_that_are_not_there(candidate: Candidate) -> Iterator[str]:
    for name in ("dataloader_prefetch_factor", "dataloader_persistent_workers"):
        if getattr(candidate, name) and candidate.dataloader_num_workers == 0:
            yield f"{candidate.at(name)} needs worker processes. Set dataloader_num_workers, or leave {name} out."


def epochs_beside_steps(candidate: Candidate) -> Iterator[str]:
    if candidate.max_steps > 0 and candidate.is_given("num_train_epochs"):
        yield f"{candidate.at('max_steps')} decides how long to train; {candidate.at('num_train_epochs')} is not used"


def intervals_not_used(candidate: Candidate) -> Iterator[str]:
    for steps, strategy in (("save_steps", "save_strategy"), ("eval_steps", "eval_strategy")):
        if steps == "eval_steps" and candidate.eval_tasks:
            continue  # they are asked by it, whatever is said of the evaluation loss
        if candidate.is_given(steps) and getattr(candidate, strategy) != "steps":
            yield f"{candidate.at(steps)} is not used: {candidate.at(strategy)}"


def warm_up_not_used(candidate: Candidate) -> Iterator[str]:
    if candidate.is_given("warmup_steps") and candidate.warmup_steps and candidate.lr_scheduler_type == "constant":
        yield f"{candidate.at('warmup_steps')} is not used by lr_scheduler_type constant; constant_with_warmup uses it"


def warm_up_to_the_end(candidate: Candidate) -> Iterator[str]:
    if 0 < candidate.max_steps < candidate.warmup_steps:
        yield (
            f"{candidate.at('warmup_steps')} is more than {candidate.at('max_steps')}: "
            "the learning rate never reaches its peak"
        )


def checkpointing_arguments_not_used(candidate: Candidate) -> Iterator[str]:
    if candidate.gradient_checkpointing_kwargs and not candidate.gradient_checkpointing:
        yield f"{candidate.at('gradient_checkpointing_kwargs')} is not used: {candidate.at('gradient_checkpointing')}"


def _similar(text: str, known: tuple[str, ...]) -> list[str]:
    containing = [name for name in known if text.lower() in name]
    return (containing or get_close_matches(text, known, n=3, cutoff=0.4) or list(known))[:3]


TRAINING_RULES = (
    fractional_counts,
    no_steps,
    schedule_without_its_arguments,
    unknown_to_transformers,
    workers_that_are_not_there,
)
TRAINING_REMARKS = (
    epochs_beside_steps,
    intervals_not_used,
    warm_up_not_used,
    warm_up_to_the_end,
    checkpointing_arguments_not_used,
)
