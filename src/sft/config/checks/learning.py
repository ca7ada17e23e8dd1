"""Rules about other ways to learn: what each needs, and what it does not go with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sft.config.candidate import Candidate

DETAILS: Mapping[str, tuple[str, ...]] = {
    "eaft_alpha": ("eaft_top_k", "eaft_divisor"),
    "lisa_layers": ("lisa_interval",),
    "relora_steps": ("relora_prune_method", "relora_prune_ratio"),
    "lr_restart_steps": ("lr_restart_warmup_steps", "lr_restart_anneal_steps"),
}
"""Options that mean nothing without another one."""

NOT_TOGETHER: Mapping[str, Mapping[str, str]] = {
    "lisa_layers": {
        "use_lora": "its layers are trained whole",
        "trainable_layers": "it says itself which layers are trained",
        "trainable_modules": "it says itself which weights are trained",
        "fsdp": "FSDP shares weights out in an order that layers which take turns would break",
        "qat_weight_dtype": "frozen layers would be rounded, too",
    },
    "relora_steps": {
        "use_dora": "the lengths of DoRA's columns are of one adapter",
        "target_parameters": "adapters on weights that stand in no layer of their own cannot be set aside",
        "load_best_model_at_end": "an earlier adapter does not fit what was set aside since",
        "fsdp": "matrices and moments that are shared out cannot be begun anew",
    },
}
"""Options that exclude each other, and why."""


def details_alone(candidate: Candidate) -> Iterator[str]:
    for owner, names in DETAILS.items():
        for name in names:
            if getattr(candidate, owner) is None and candidate.is_changed(name):
                yield f"{candidate.at(name)} without {owner} would be ignored. Set {owner}, or leave {name} out."


def ways_that_exclude_each_other(candidate: Candidate) -> Iterator[str]:
    for name, others in NOT_TOGETHER.items():
        for other, why in others.items():
            if getattr(candidate, name) is not None and getattr(candidate, other):
                yield f"{candidate.at(name)} with {candidate.at(other)}: {why}. Leave one of them out."


def restarts_of_no_adapter(candidate: Candidate) -> Iterator[str]:
    if candidate.relora_steps is None:
        return
    if not candidate.use_lora:
        yield f"{candidate.at('relora_steps')} without use_lora: there is no adapter to begin anew. Set use_lora."
    elif candidate.init_lora_weights != "default":
        yield (
            f"{candidate.at('relora_steps')} with {candidate.at('init_lora_weights')}: each adapter begins with zeros. "
            "Use init_lora_weights: default."
        )


def restarts_without_room(candidate: Candidate) -> Iterator[str]:
    every = candidate.lr_restart_steps
    around = candidate.lr_restart_warmup_steps + candidate.lr_restart_anneal_steps
    if every is not None and around > every:
        yield (
            f"{candidate.at('lr_restart_steps')} with {candidate.at('lr_restart_warmup_steps')} and "
            f"{candidate.at('lr_restart_anneal_steps')}: rise and fall take {around} steps. Make them shorter."
        )


def ways_of_other_stages(candidate: Candidate) -> Iterator[str]:
    if candidate.stage == "dpo" and candidate.eaft_alpha is not None:
        yield (
            f"{candidate.at('eaft_alpha')} in {candidate.at('stage')}: it weighs the tokens of one answer, and two are "
            "compared here. Leave it out."
        )
    if candidate.stage == "dpo" and candidate.relora_steps is not None:
        yield (
            f"{candidate.at('relora_steps')} in {candidate.at('stage')}: the model is compared with itself without its "
            "adapter, and those that are set aside would stay. Leave it out."
        )


LEARNING_RULES = (
    details_alone,
    ways_that_exclude_each_other,
    restarts_of_no_adapter,
    restarts_without_room,
    ways_of_other_stages,
)
