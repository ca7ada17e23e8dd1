"""Rules about what makes a step quicker or lets it fit."""

from __future__ import annotations

from collections.abc import Iterator

from sft.config.candidate import Candidate

CHOICES_OF_LAYERS = ("gradient_checkpointing_every", "gradient_checkpointing_layers")


def batches_by_tokens_of_packed_rows(candidate: Candidate) -> Iterator[str]:
    if candidate.tokens_per_batch is None:
        return
    for name in ("packing", "isolate_documents"):
        if getattr(candidate, name):
            yield (
                f"{candidate.at('tokens_per_batch')} with {candidate.at(name)}: packed rows are all of one length, so "
                "that there is nothing to sort. Leave one of them out; packing wastes less."
            )


def batches_by_tokens_elsewhere(candidate: Candidate) -> Iterator[str]:
    if candidate.tokens_per_batch is None:
        return
    if candidate.stage == "dpo":
        yield (
            f"{candidate.at('tokens_per_batch')} with stage = dpo: its rows are pairs of answers, which are counted. "
            "Leave tokens_per_batch out and set per_device_train_batch_size."
        )
    if (candidate.context_parallel_size or 1) > 1:
        yield (
            f"{candidate.at('tokens_per_batch')} with {candidate.at('context_parallel_size')}: processes that share "
            "rows need the same number of rows in each batch. Leave one of them out."
        )


def batch_smaller_than_a_row(candidate: Candidate) -> Iterator[str]:
    if candidate.tokens_per_batch is not None and candidate.tokens_per_batch < candidate.max_length:
        yield (
            f"{candidate.at('tokens_per_batch')} is less than {candidate.at('max_length')}: a row of max_length tokens "
            "would fit no batch. Raise tokens_per_batch or lower max_length."
        )


def chosen_layers_without_checkpointing(candidate: Candidate) -> Iterator[str]:
    if candidate.gradient_checkpointing:
        return
    for name in CHOICES_OF_LAYERS:
        if candidate.is_changed(name):
            yield (
                f"{candidate.at(name)} without gradient_checkpointing would be ignored: no layer is recomputed. Set "
                f"gradient_checkpointing: true, or leave {name} out."
            )


def layers_chosen_twice(candidate: Candidate) -> Iterator[str]:
    if candidate.gradient_checkpointing_layers is not None and candidate.gradient_checkpointing_every != 1:
        yield (
            f"{candidate.at('gradient_checkpointing_every')} with {candidate.at('gradient_checkpointing_layers')}: "
            "both say which layers are recomputed. Leave one of them out."
        )


def compiled_twice(candidate: Candidate) -> Iterator[str]:
    if candidate.compile_layers and candidate.torch_compile:
        yield (
            f"{candidate.at('compile_layers')} with {candidate.at('torch_compile')}: one compiles the layers, the "
            "other the whole model. Leave one of them out."
        )


def figures_of_another_loss(candidate: Candidate) -> Iterator[str]:
    if candidate.stage == "dpo" and candidate.log_token_figures:
        yield (
            f"{candidate.at('log_token_figures')} with stage = dpo: its loss is of pairs of answers, and TRL logs "
            "figures of its own. Leave log_token_figures out."
        )


def batch_size_not_used(candidate: Candidate) -> Iterator[str]:
    if candidate.tokens_per_batch is not None and candidate.is_given("per_device_train_batch_size"):
        yield f"{candidate.at('per_device_train_batch_size')} is not used: tokens_per_batch makes the batches"


SPEED_RULES = (
    batches_by_tokens_of_packed_rows,
    batches_by_tokens_elsewhere,
    batch_smaller_than_a_row,
    chosen_layers_without_checkpointing,
    layers_chosen_twice,
    compiled_twice,
    figures_of_another_loss,
)

SPEED_REMARKS = (batch_size_not_used,)
