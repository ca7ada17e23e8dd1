"""What a trained token counts, told by the model's own prediction: entropy-adaptive fine-tuning.

https://arxiv.org/abs/2601.02151: a token whose loss is high although the model is sure of its prediction contradicts
what the model knows, and learning it makes the model forget. So each loss is multiplied by the entropy of the
prediction, taken over its likeliest tokens, where nearly all of it lies. No gradient goes through that factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from sft.config import SFTConfig


@dataclass(frozen=True)
class EntropyWeight:
    """``(entropy / divisor) ** alpha`` of the ``top_k`` largest logits, entropy in nats."""

    alpha: float
    top_k: int
    divisor: float

    def __call__(self, logits: Tensor) -> Tensor:
        """What each position counts: float32 (positions,), from logits (positions, vocab)."""
        likeliest = logits.detach().topk(min(self.top_k, logits.shape[-1]), dim=-1).values.float()
        logs = likeliest.log_softmax(-1)
        entropy = -(logs.exp() * logs).sum(-1)
        return (entropy / self.divisor).clamp_min(0).pow(self.alpha)


def token_weight(config: SFTConfig) -> EntropyWeight | None:
    """What a config multiplies the loss of each trained token by; None: nothing."""
    if config.eaft_alpha is None:
        return None
    divisor = math.log(config.eaft_top_k) if config.eaft_divisor is None else config.eaft_divisor
    return EntropyWeight(config.eaft_alpha, config.eaft_top_k, divisor)
