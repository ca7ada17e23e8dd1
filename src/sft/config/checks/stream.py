"""Rules about training while data are prepared: what cannot be said before all of them are."""

from __future__ import annotations

from collections.abc import Iterator

from sft.config.candidate import Candidate


def stream_without_an_end(candidate: Candidate) -> Iterator[str]:
    if candidate.stream_preparation and candidate.max_steps < 1:
        yield (
            f"{candidate.at('stream_preparation')} with {candidate.at('max_steps')}: how many steps an epoch has is "
            "known only when all data are prepared, and the learning rate needs to know where it ends. Set max_steps: "
            "about rows / (rows of a step) for one epoch (sft plan counts them, preparing all); or leave "
            "stream_preparation out."
        )


def stream_in_another_stage(candidate: Candidate) -> Iterator[str]:
    if candidate.stream_preparation and candidate.stage != "sft":
        yield (
            f"{candidate.at('stream_preparation')} in {candidate.at('stage')}: its rows are made of all documents or "
            "pairs together. Leave stream_preparation out."
        )


def stream_of_batches_by_tokens(candidate: Candidate) -> Iterator[str]:
    if candidate.stream_preparation and candidate.tokens_per_batch is not None:
        yield (
            f"{candidate.at('stream_preparation')} with {candidate.at('tokens_per_batch')}: such batches are formed "
            "from the lengths of all rows. Leave one of them out; packing fills rows within a window."
        )


def epochs_of_a_stream(candidate: Candidate) -> Iterator[str]:
    if not candidate.stream_preparation:
        return
    for name in ("save_strategy", "eval_strategy", "logging_strategy"):
        if getattr(candidate, name) == "epoch":
            yield (
                f"{candidate.at(name)} with {candidate.at('stream_preparation')}: where an epoch ends is known only "
                f"when all data are prepared. Set {name}: steps."
            )


def window_without_a_stream(candidate: Candidate) -> Iterator[str]:
    if candidate.is_changed("stream_window") and not candidate.stream_preparation:
        yield (
            f"{candidate.at('stream_window')} without stream_preparation would be ignored. Set stream_preparation: "
            "true, or leave stream_window out."
        )


STREAM_RULES = (
    stream_without_an_end,
    stream_in_another_stage,
    stream_of_batches_by_tokens,
    epochs_of_a_stream,
    window_without_a_stream,
)
