"""Rules about training for fewer bits, or in them."""

from __future__ import annotations

from collections.abc import Iterator

from sft.config.candidate import Candidate
from sft.config.fewer_bits import FIXED_GROUPS, QAT_GROUPS, QAT_PAIRS

QAT_DETAILS = ("qat_activation_dtype", "qat_group_size", "qat_embedding", "qat_output_head", "qat_start_step")
WHOLE_MODEL = {
    "qat_weight_dtype": "the rounding is of the weights that are trained, and an adapter leaves them as they are",
    "float8_training": "an adapter's matrices are too narrow for 8-bit products to pay off",
    "keep_zeros": "an adapter leaves the model's own weights as they are, zeros among them",
}
"""What needs weights that are trained themselves, and why."""


def details_without_rounding(candidate: Candidate) -> Iterator[str]:
    if candidate.qat_weight_dtype is not None:
        return
    for name in QAT_DETAILS:
        if candidate.is_changed(name):
            yield (
                f"{candidate.at(name)} without qat_weight_dtype would be ignored: nothing is rounded. Set "
                f"qat_weight_dtype, or leave {name} out."
            )


def formats_that_do_not_go_together(candidate: Candidate) -> Iterator[str]:
    weights, inputs = candidate.qat_weight_dtype, candidate.qat_activation_dtype
    if weights is None or inputs in QAT_PAIRS[weights]:
        return
    known = " or ".join(sorted("none" if one is None else one for one in QAT_PAIRS[weights]))
    yield (
        f"{candidate.at('qat_weight_dtype')} with {candidate.at('qat_activation_dtype')}: no quantiser makes such a "
        f"model. With {weights} weights choose {known} for qat_activation_dtype."
    )


def groups_of_another_size(candidate: Candidate) -> Iterator[str]:
    pair, size = (candidate.qat_weight_dtype, candidate.qat_activation_dtype), candidate.qat_group_size
    if pair[0] is None or size is None or pair[1] not in QAT_PAIRS[pair[0]]:
        return
    usual = QAT_GROUPS.get(pair)
    if usual is None:
        yield (
            f"{candidate.at('qat_group_size')} with {candidate.at('qat_weight_dtype')}: it has no groups. "
            "Leave qat_group_size out."
        )
    elif pair in FIXED_GROUPS and size != usual:
        yield (
            f"{candidate.at('qat_group_size')} with {candidate.at('qat_weight_dtype')}: the format prescribes groups "
            f"of {usual}. Leave qat_group_size out."
        )


def embedding_in_another_format(candidate: Candidate) -> Iterator[str]:
    if candidate.qat_embedding and candidate.qat_weight_dtype not in (None, "int4", "int8"):
        yield (
            f"{candidate.at('qat_embedding')} with {candidate.at('qat_weight_dtype')}: rows of an embedding are "
            "quantised to int4 and int8 only. Leave qat_embedding out."
        )


def fewer_bits_under_an_adapter(candidate: Candidate) -> Iterator[str]:
    for name, why in WHOLE_MODEL.items():
        if candidate.use_lora and getattr(candidate, name):
            yield f"{candidate.at(name)} with {candidate.at('use_lora')}: {why}. Keep one of the two."


def rounding_beside_a_reference(candidate: Candidate) -> Iterator[str]:
    for name in ("qat_weight_dtype", "float8_training"):
        if candidate.stage == "dpo" and getattr(candidate, name):
            yield (
                f"{candidate.at(name)} with {candidate.at('stage')}: the model would be compared with itself before "
                "the rounding, and learn the difference. Train that way in stage sft."
            )


def two_roundings(candidate: Candidate) -> Iterator[str]:
    if candidate.qat_weight_dtype is not None and candidate.float8_training:
        yield (
            f"{candidate.at('qat_weight_dtype')} with {candidate.at('float8_training')}: both round the same products. "
            "Keep one of the two."
        )


FEWER_BITS_RULES = (
    details_without_rounding,
    formats_that_do_not_go_together,
    groups_of_another_size,
    embedding_in_another_format,
    fewer_bits_under_an_adapter,
    rounding_beside_a_reference,
    two_roundings,
)
