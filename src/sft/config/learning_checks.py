"""Rules about other ways to learn: what each needs, and what it does not go with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sft.config.candidate import Candidate

DETAILS: Mapping[str, tuple[str, ...]] = {
    "eaft_alpha": ("eaft_top_k", "eaft_divisor"),
    "lisa_layers": ("lisa_interval",),
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
}
"""Options that exclude each other, and why."""


def details_alone(candidate: Candidate) -> Iterator[str]:
    for owner, names in DETAILS.items():
        for name in names:
            if getattr(candidate, owner) is None and candidate.is_given(name) and candidate.differs(name):
                yield f"{candidate.at(name)} without {owner} would be ignored. Set {owner}, or leave {name} out."


def ways_that_exclude_each_other(candidate: Candidate) -> Iterator[str]:
    for name, others in NOT_TOGETHER.items():
        for other, why in others.items():
            if getattr(candidate, name) is not None and getattr(candidate, other):
                yield f"{candidate.at(name)} with {candidate.at(other)}: {why}. Leave one of them out."


def ways_of_other_stages(candidate: Candidate) -> Iterator[str]:
    if candidate.stage == "dpo" and candidate.eaft_alpha is not None:
        yield (
            f"{candidate.at('eaft_alpha')} in {candidate.at('stage')}: it weighs the tokens of one answer, and two are "
            "compared here. Leave it out."
        )


LEARNING_RULES = (details_alone, ways_that_exclude_each_other, ways_of_other_stages)
