"""Rules about layers, rows and experts that several processes share."""

from __future__ import annotations

from collections.abc import Iterator

from sft.config.candidate import Candidate

BY_LIBRARY = ("tensor_parallel_size", "expert_parallel_size", "dp_replicate_size")
"""What transformers shares out while it loads the model."""

PLANNED = {
    "version": (2,),
    "reshard_after_forward": (True,),
    "cpu_offload": (False,),
    "offload_params": (False,),
    "auto_wrap_policy": None,
    "transformer_layer_cls_to_wrap": None,
    "state_dict_type": None,
    "cpu_ram_efficient_loading": None,
}
"""Settings of FSDP2 that the model's own plan holds to anyway, and with which values; None: it decides itself."""


def _sizes(candidate: Candidate, *names: str) -> list[str]:
    return [name for name in names if getattr(candidate, name) > 1]


def shared_in_a_stage_that_cannot(candidate: Candidate) -> Iterator[str]:
    if candidate.stage == "dpo":
        for name in _sizes(candidate, *BY_LIBRARY, "context_parallel_size"):
            yield (
                f"{candidate.at(name)} in {candidate.at('stage')}: pairs are compared by each process whole. Use fsdp."
            )


def shared_by_two_engines(candidate: Candidate) -> Iterator[str]:
    if candidate.deepspeed:
        for name in _sizes(candidate, *BY_LIBRARY):
            yield f"{candidate.at(name)} and {candidate.at('deepspeed')}: choose one; its partner is fsdp."


def quantised_and_shared(candidate: Candidate) -> Iterator[str]:
    for quantised in ("load_in_4bit", "load_in_8bit"):
        for name in _sizes(candidate, *BY_LIBRARY) if getattr(candidate, quantised) else ():
            yield (
                f"{candidate.at(name)} and {candidate.at(quantised)}: packed weights cannot be parted. Leave one out."
            )


def shared_with_other_settings(candidate: Candidate) -> Iterator[str]:
    settings = candidate.fsdp_config or {}
    for name in _sizes(candidate, *BY_LIBRARY)[:1]:
        if not isinstance(settings, dict):
            yield f"{candidate.at('fsdp_config')} with {candidate.at(name)}: write its settings out, not a file."
            continue
        for key, value in settings.items():
            allowed = PLANNED.get(key.removeprefix("fsdp_"), ())
            if allowed is not None and value not in allowed:
                yield (
                    f"fsdp_config: {key} = {value!r} does nothing with {candidate.at(name)}, where transformers parts "
                    "the weights by the model's own plan. Take it out."
                )


def adapter_in_parted_layers(candidate: Candidate) -> Iterator[str]:
    """PEFT 0.21 takes the width of a process's part for the width of the layer."""
    if candidate.use_lora and candidate.tensor_parallel_size > 1:
        yield (
            f"{candidate.at('tensor_parallel_size')} and {candidate.at('use_lora')}: the matrices of an adapter beside "
            "parted layers have no right widths in PEFT. Use fsdp, which parts what LoRA trains too."
        )


def best_of_shared(candidate: Candidate) -> Iterator[str]:
    if candidate.load_best_model_at_end:
        for name in _sizes(candidate, *BY_LIBRARY):
            yield (
                f"{candidate.at('load_best_model_at_end')} and {candidate.at(name)}: transformers cannot put a "
                "checkpoint back into such a model. Leave it out and take the checkpoint of the best evaluation."
            )


def added_rows_of_shared(candidate: Candidate) -> Iterator[str]:
    for added in ("added_tokens", "added_special_tokens"):
        for name in _sizes(candidate, *BY_LIBRARY) if getattr(candidate, added) else ():
            yield (
                f"{candidate.at(added)} and {candidate.at(name)}: an embedding that is parted gets no more rows. Add "
                "the tokens to the model first, or leave one of them out."
            )


def context_without_its_attention(candidate: Candidate) -> Iterator[str]:
    if candidate.context_parallel_size > 1 and candidate.attn_implementation not in (None, "sdpa"):
        yield (
            f"{candidate.at('context_parallel_size')} and {candidate.at('attn_implementation')}: documents are "
            "exchanged between processes and attended to by sdpa. Leave attn_implementation out."
        )


def two_shardings(candidate: Candidate) -> Iterator[str]:
    if candidate.deepspeed and candidate.fsdp:
        yield f"{candidate.at('deepspeed')} and {candidate.at('fsdp')}: choose one."


PARALLEL_RULES = (
    two_shardings,
    shared_in_a_stage_that_cannot,
    shared_by_two_engines,
    quantised_and_shared,
    shared_with_other_settings,
    adapter_in_parted_layers,
    best_of_shared,
    added_rows_of_shared,
    context_without_its_attention,
)
