"""A frozen base held in 4 or 8 bits by bitsandbytes, under an adapter (QLoRA, https://arxiv.org/abs/2305.14314)."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from sft.config import SFTConfig
from sft.errors import ModelError
from sft.models.loftq import START as LOFTQ
from sft.models.precision import DTYPES, dtype_of

HEAD = "lm_head"
RECORD_NAME = "trained_quantization.json"
"""File in an adapter's folder that tells how the base was held when the adapter was trained."""


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How the weights of the linear layers are held. Embeddings, norms and the output head never are."""

    bits: int
    """4 or 8."""

    kind: str = "nf4"
    """The sixteen values of 4 bits: nf4 or fp4. Without meaning for 8."""

    double: bool = True
    """Whether the scales of the 4-bit blocks are held in 8 bits themselves."""

    compute_dtype: str | None = None
    """Precision 4-bit weights are multiplied in. None: that of the weights that are not quantised."""

    rounded_from: str | None = None
    """Precision of the weights as they were loaded, before they were rounded. None: that of their files."""

    matched: bool = False
    """Whether the adapter began by making up for the rounding (LoftQ), so that it fits the rounded weights alone."""

    def describe(self) -> str:
        """'NF4, double quantisation' or '8-bit base', for people."""
        if self.bits == 8:
            return "8-bit base"
        return f"{self.kind.upper()}{', double quantisation' if self.double else ''}"

    def require_library(self) -> None:
        """Raise ModelError where the library that holds weights in few bits is not installed."""
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ModelError(
                f"weights in {self.bits} bits are held by bitsandbytes, which is not installed. Install it "
                '(pip install "sft-kit[quantization]"), or leave load_in_4bit and load_in_8bit out.'
            )

    def to_bitsandbytes(self, dtype: torch.dtype | str, *, whole: Sequence[str] = ()) -> BitsAndBytesConfig:
        """The config that transformers loads by.

        Args:
            dtype: of the other weights.
            whole: last names of linear layers that are not quantised; without any, that is the output head's alone.
        """
        skipped = [*whole, HEAD] if whole else None
        if self.bits == 8:
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
        others = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
        return BitsAndBytesConfig(
            load_in_4bit=True,
            llm_int8_skip_modules=skipped,
            bnb_4bit_quant_type=self.kind,
            bnb_4bit_use_double_quant=self.double,
            bnb_4bit_compute_dtype=DTYPES[self.compute_dtype] if self.compute_dtype else others,
        )


def quantization_of(config: SFTConfig) -> Quantization | None:
    """What a configuration asks for; None: weights in full."""
    loaded = dtype_of(config)
    rounded_from = str(loaded).removeprefix("torch.") if isinstance(loaded, torch.dtype) else None
    if config.load_in_8bit:
        return Quantization(bits=8, rounded_from=rounded_from)
    if not config.load_in_4bit:
        return None
    return Quantization(
        bits=4,
        kind=config.bnb_4bit_quant_type,
        double=config.bnb_4bit_use_double_quant,
        compute_dtype=config.bnb_4bit_compute_dtype,
        rounded_from=rounded_from,
        matched=config.init_lora_weights == LOFTQ,
    )


def write_quantization(folder: Path, quantization: Quantization) -> None:
    """Record beside an adapter which weights it was trained over."""
    (folder / RECORD_NAME).write_text(json.dumps(asdict(quantization), indent=2) + "\n", encoding="utf-8")


def read_quantization(folder: Path) -> Quantization | None:
    """What ``write_quantization`` recorded; None where the adapter was trained over weights in full, or elsewhere."""
    path = folder / RECORD_NAME
    return Quantization(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def is_quantised(model: Any) -> bool:
    """Whether transformers loaded a model with weights in few bits."""
    return getattr(model, "quantization_method", None) is not None


def keep_gradients_after_evaluation(model: Any) -> None:
    """Stop bitsandbytes from repacking 4-bit weights on CPUs with avx512_bf16.

    The first forward pass without gradients moves them into a layout whose kernel has no backward, and every later
    training step silently learns nothing below it (seen with bitsandbytes 0.50).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
