"""Rules about stages: which options mean nothing in which of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sft.config.candidate import Candidate
from sft.config.stage import SMOOTHED_LOSS_TYPES

OWN_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "pretrain": ("isolate_documents",),
    "dpo": ("dpo_beta", "dpo_loss_type", "dpo_label_smoothing", "max_prompt_length"),
}
"""Options that belong to one stage."""

WITHOUT_MEANING: Mapping[str, Mapping[str, str]] = {
    "pretrain": {
        "packing": "blocks are full already; isolate_documents says whether documents in one see each other",
        "train_on": "every token is trained",
        "overlong": "a long document goes on in the next block",
        "min_length": "documents are joined into full blocks",
        "rewritten_history": "there are no turns",
        "chat_template_kwargs": "texts are not rendered by a template",
        "use_chat_template": "texts are not rendered by a template",
        "system_prompt": "texts have no system message",
        "role_names": "texts have no roles",
        "append_eos": "every document is followed by the end token",
        "train_tasks": "rows of tasks are questions with answers; train them in stage sft",
    },
    "dpo": {
        "packing": "pairs are not packed",
        "min_length": "no pair is too short",
        "train_on": "what is compared is the last answer",
        "rewritten_history": "only the last answer is trained",
        "train_tasks": "rows of tasks have one answer, not two",
        "label_smoothing_factor": "it belongs to another loss; dpo_label_smoothing is this one's",
    },
}
"""Options that would be ignored in a stage, and why."""

SAME_ANYWAY = {"train_on": {"pretrain": "everything", "dpo": "last_answer"}}
"""A value that asks for what the stage does anyway."""


def options_of_another_stage(candidate: Candidate) -> Iterator[str]:
    for stage, names in OWN_OPTIONS.items():
        for name in names:
            if candidate.stage != stage and candidate.is_changed(name):
                yield (
                    f"{candidate.at(name)} belongs to stage {stage}, but {candidate.at('stage')}. Set stage: {stage}, "
                    f"or leave {name} out."
                )


def options_without_meaning_in_the_stage(candidate: Candidate) -> Iterator[str]:
    for name, why in WITHOUT_MEANING.get(candidate.stage, {}).items():
        if not candidate.is_changed(name) or not getattr(candidate, name):
            continue
        if getattr(candidate, name) != SAME_ANYWAY.get(name, {}).get(candidate.stage):
            yield f"{candidate.at(name)} in {candidate.at('stage')} would be ignored: {why}. Leave {name} out."


def columns_of_another_stage(candidate: Candidate) -> Iterator[str]:
    is_dpo = candidate.stage == "dpo"
    for key in ("response",) if is_dpo else ("chosen", "rejected"):
        if key in candidate.columns:
            instead = "Name chosen and rejected." if is_dpo else "Set stage: dpo, or leave it out."
            yield f"{candidate.at('columns')}: {key} is not read in {candidate.at('stage')}. {instead}"


def cutting_the_answers_off(candidate: Candidate) -> Iterator[str]:
    if candidate.stage == "dpo" and candidate.overlong == "cut_end":
        yield (
            f"{candidate.at('overlong')} in {candidate.at('stage')}: the two answers stand at the end. Use cut_start "
            "(the oldest turns of the prompt leave), drop or error."
        )


def reference_that_the_adapter_changed(candidate: Candidate) -> Iterator[str]:
    """The model without its adapter is another one: they take a part out of its weights, or make up for a loss."""
    if candidate.stage == "dpo" and candidate.init_lora_weights.startswith(("pissa", "olora", "loftq")):
        yield (
            f"{candidate.at('init_lora_weights')} in {candidate.at('stage')}: the model is compared with itself "
            "without its adapter, and this beginning changes that one. Use init_lora_weights: default."
        )


def dropout_not_used(candidate: Candidate) -> Iterator[str]:
    if candidate.stage == "dpo" and candidate.is_given("lora_dropout") and candidate.lora_dropout:
        yield f"{candidate.at('lora_dropout')} is not used: stage dpo compares answers without dropout"


def smoothing_that_the_loss_ignores(candidate: Candidate) -> Iterator[str]:
    if candidate.dpo_label_smoothing and candidate.dpo_loss_type not in SMOOTHED_LOSS_TYPES:
        yield (
            f"{candidate.at('dpo_label_smoothing')} is not used by {candidate.at('dpo_loss_type')}. Choose "
            f"dpo_loss_type: {' or '.join(SMOOTHED_LOSS_TYPES)}, or leave dpo_label_smoothing out."
        )


def smoothing_out_of_range(candidate: Candidate) -> Iterator[str]:
    loss, smoothing = candidate.dpo_loss_type, candidate.dpo_label_smoothing
    if loss == "exo_pair" and smoothing == 0 and candidate.stage == "dpo":
        yield f"{candidate.at('dpo_loss_type')} needs dpo_label_smoothing above 0, such as 0.001."
    if loss == "robust" and smoothing == 0.5:
        yield f"{candidate.at('dpo_label_smoothing')} with {candidate.at('dpo_loss_type')}: must be below 0.5."


def prompt_without_room_for_an_answer(candidate: Candidate) -> Iterator[str]:
    limit = candidate.max_prompt_length
    if limit is not None and limit >= candidate.max_length:
        yield (
            f"{candidate.at('max_prompt_length')} leaves no room for an answer in {candidate.at('max_length')}. "
            "Make it smaller, or max_length larger."
        )


def prompt_limit_not_used(candidate: Candidate) -> Iterator[str]:
    is_limited = candidate.stage == "dpo" and candidate.max_prompt_length is not None
    if is_limited and candidate.overlong != "cut_start":
        yield (
            f"{candidate.at('max_prompt_length')} with {candidate.at('overlong')} would be ignored: no prompt is cut. "
            "Set overlong: cut_start, or leave max_prompt_length out."
        )


STAGE_RULES = (
    options_of_another_stage,
    options_without_meaning_in_the_stage,
    columns_of_another_stage,
    reference_that_the_adapter_changed,
    cutting_the_answers_off,
    smoothing_that_the_loss_ignores,
    smoothing_out_of_range,
    prompt_without_room_for_an_answer,
    prompt_limit_not_used,
)

STAGE_REMARKS = (dropout_not_used,)
