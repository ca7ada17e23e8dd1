"""Rules about the precision of weights and of what is computed with them."""

from __future__ import annotations

from collections.abc import Iterator

from sft.config.candidate import Candidate


def two_precisions(candidate: Candidate) -> Iterator[str]:
    for half, brain in (("fp16", "bf16"), ("fp16_full_eval", "bf16_full_eval")):
        if getattr(candidate, half) and getattr(candidate, brain):
            yield (
                f"{candidate.at(half)} and {candidate.at(brain)}: only one of the two can be used. "
                "Keep bf16 on Ampere and newer GPUs, fp16 on older ones."
            )


def half_precision_on_cpu(candidate: Candidate) -> Iterator[str]:
    if candidate.fp16 and candidate.use_cpu:
        yield f"{candidate.at('fp16')} with {candidate.at('use_cpu')}: float16 needs a GPU. Use bf16, or neither."


def pure_float16_training(candidate: Candidate) -> Iterator[str]:
    if candidate.dtype == "float16" and not candidate.use_lora:
        yield (
            f"{candidate.at('dtype')} for weights that are trained: most updates are too small for float16 and vanish. "
            "Leave dtype out and set fp16 (float32 weights, float16 computation), or use dtype bfloat16."
        )


def two_quantizations(candidate: Candidate) -> Iterator[str]:
    if candidate.load_in_4bit and candidate.load_in_8bit:
        yield f"{candidate.at('load_in_4bit')} and {candidate.at('load_in_8bit')}: choose one."


def quantization_without_adapter(candidate: Candidate) -> Iterator[str]:
    for name in ("load_in_4bit", "load_in_8bit"):
        if getattr(candidate, name) and not candidate.use_lora:
            yield f"{candidate.at(name)} without use_lora: quantized weights cannot be trained. Set use_lora to true."


def quantized_experts_alone(candidate: Candidate) -> Iterator[str]:
    if candidate.quantize_experts and not (candidate.load_in_4bit or candidate.load_in_8bit):
        yield (
            f"{candidate.at('quantize_experts')} without load_in_4bit or load_in_8bit: experts are held in as few bits "
            "as the other weights. Set load_in_4bit or load_in_8bit, or leave quantize_experts out."
        )


def quantisation_details_not_used(candidate: Candidate) -> Iterator[str]:
    if candidate.load_in_4bit:
        return
    for name in ("bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype"):
        if candidate.is_given(name):
            yield f"{candidate.at(name)} is not used: {candidate.at('load_in_4bit')}"


PRECISION_RULES = (
    two_precisions,
    half_precision_on_cpu,
    pure_float16_training,
    two_quantizations,
    quantization_without_adapter,
    quantized_experts_alone,
)
PRECISION_REMARKS = (quantisation_details_not_used,)
