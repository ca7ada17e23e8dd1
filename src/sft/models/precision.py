"""In which precision weights are held."""

from __future__ import annotations

import torch

from sft.config import SFTConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_dtype(dtype: str | None, *, frozen: bool, bf16: bool, fp16: bool) -> torch.dtype | str:
    """Precision of the loaded weights: as asked, else float32 for weights that are trained.

    A frozen base under an adapter is held in the precision of the computation.
    """
    if dtype is not None:
        return DTYPES.get(dtype, dtype)
    if frozen and bf16:
        return torch.bfloat16
    if frozen and fp16:
        return torch.float16
    return torch.float32


def dtype_of(config: SFTConfig) -> torch.dtype | str:
    """The precision that a configuration's base model is loaded in; "auto" for that of its files."""
    return resolve_dtype(config.dtype, frozen=config.use_lora, bf16=config.bf16, fp16=config.fp16)
