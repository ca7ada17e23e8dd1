"""What an adapter was trained over, when its base was held in few bits, and how far a merge is from that.

A merge uses the base model's weights in full, which are better weights; but the adapter learnt to answer over the rounded
ones. How often both answer the same is measured and told. Merging into the rounded weights, written out in full, gives
the trained model itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bitsandbytes.functional as bits
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from sft.export.adapter import Adapter
from sft.export.save import quiet_peft
from sft.export.verify import Agreement, compare_logits, compute_logits
from sft.models.load import load_model
from sft.models.quantization import Quantization, is_quantised, read_quantization


def compare_as_trained(
    adapter: Adapter,
    base_model: str,
    merged: Sequence[Tensor],
    prompts: Sequence[Sequence[int]],
    *,
    rows: int | None = None,
    source: Mapping[str, Any] | None = None,
) -> Agreement | None:
    """The adapter over the base as it was held in training, against a merged model's logits on the same prompts.

    Args:
        merged: logits of the merged model, as ``compute_logits`` gives them.
        rows: of the embedding, where tokens were added.
        source: revision and trust_remote_code of the base model.

    Returns:
        None where the adapter was not trained over a quantised base.
    """
    quantization = read_quantization(adapter.path)
    if quantization is None:
        return None
    model = load_over_quantised(adapter, base_model, quantization, rows=rows, **(source or {}))
    return compare_logits(compute_logits(model, prompts), merged)


def load_over_quantised(
    adapter: Adapter,
    base_model: str,
    quantization: Quantization,
    *,
    rows: int | None = None,
    dtype: torch.dtype | str = torch.float32,
    **source: Any,
) -> PeftModel:
    """The adapter on a base held in few bits, ready to answer, on this process's device."""
    model = load_model(base_model, dtype=dtype, quantization=quantization, **source)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    with quiet_peft():
        return PeftModel.from_pretrained(model, str(adapter.path)).eval()


def round_linear_layers(model: PreTrainedModel, quantization: Quantization) -> None:
    """Replace the weights that a quantised model would hold in few bits by what it computes with."""
    head = model.get_output_embeddings()
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not head:
            module.weight.data = as_quantised(module.weight.data, quantization)


def as_quantised(weight: Tensor, quantization: Quantization) -> Tensor:
    """The weight after rounding, (out, in) as before, in its own precision."""
    if quantization.bits == 8:
        scale = weight.float().abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
        return ((weight.float() / scale).round() * scale).to(weight.dtype)
    codes, state = bits.quantize_4bit(
        weight.contiguous(), compress_statistics=quantization.double, quant_type=quantization.kind
    )
    return bits.dequantize_4bit(codes, state).to(weight.dtype)


def dequantise(model: PreTrainedModel) -> PreTrainedModel:
    """A quantised model with its rounded weights in full precision."""
    assert is_quantised(model), "only a quantised model can be dequantised"
    full: PreTrainedModel = model.dequantize()
    return full


def was_quantised(folder: Path) -> bool:
    """Whether the adapter in a folder was trained over a quantised base."""
    return read_quantization(folder) is not None
