"""Training for fewer bits, or in them: weights that will be quantised, sparse weights, products in 8 bits."""

from __future__ import annotations

from dataclasses import dataclass

from sft.config.option import option

QAT_PAIRS: dict[str, tuple[str | None, ...]] = {
    "int4": (None, "int8", "float8"),
    "int8": (None, "int8"),
    "float8": ("float8",),
    "mxfp4": ("mxfp4",),
    "nvfp4": (None, "nvfp4"),
    "ternary": ("int8",),
}
"""Format of the weights -> those that activations can have beside it."""

QAT_GROUPS: dict[tuple[str, str | None], int | None] = {
    ("int4", None): 32,
    ("int4", "int8"): 32,
    ("int8", None): 32,
    ("int8", "int8"): 32,
    ("int4", "float8"): 128,
    ("mxfp4", "mxfp4"): 32,
    ("nvfp4", None): 16,
    ("nvfp4", "nvfp4"): 16,
}
"""Weights that share a scale, where a number of them does."""

FIXED_GROUPS = frozenset({("int4", "float8"), ("mxfp4", "mxfp4"), ("nvfp4", None), ("nvfp4", "nvfp4")})
"""Pairs whose format prescribes the number."""


@dataclass(frozen=True, kw_only=True)
class FewerBitsOptions:
    """Quantisation-aware training, sparse weights, products in 8 bits (docs/fewer-bits.md)."""

    qat_weight_dtype: str | None = option(
        None,
        "Quantisation-aware training: in every forward pass the weights of linear layers are rounded as they will be "
        "when the saved model is quantised to this format. Unset: not rounded. ternary: BitNet b1.58.",
        choices=list(QAT_PAIRS),
    )
    qat_activation_dtype: str | None = option(
        None,
        "The format that the inputs of these layers are rounded to. Unset: weights alone are rounded.",
        choices=["int8", "float8", "mxfp4", "nvfp4"],
    )
    qat_group_size: int | None = option(
        None,
        "Weights of a row that share one scale, for int4 and int8; must divide the width of every rounded layer. "
        "Unset: 32, or as the format says (mxfp4 32, nvfp4 16, float8 a row, ternary the whole matrix).",
        minimum=2,
    )
    qat_embedding: bool = option(False, "Round the rows of the embedding too, as weights are. For int4 and int8.")
    qat_output_head: bool = option(
        False, "Round the output head too. Most quantisers leave it as it is; torchao's quantize_ does not."
    )
    qat_start_step: int = option(
        0, "Step from which on there is rounding; before it the run is a plain one.", minimum=0
    )
    float8_training: bool = option(
        False,
        "Multiply in 8-bit floats, forward and backward, with scales found anew for each tensor (torchao). The weights "
        "stay as they are. Needs a GPU with such units (compute capability 8.9); pays off with torch_compile.",
    )
    keep_zeros: bool = option(
        False,
        "Weights of linear layers that are exactly zero stay zero, so that a model made sparse stays sparse.",
    )
