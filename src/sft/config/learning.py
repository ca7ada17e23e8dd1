"""Other ways to learn from the same rows: losses that weigh tokens, layers and adapters that take turns."""

from __future__ import annotations

from dataclasses import dataclass

from sft.config.option import option

PRUNING = ("magnitude", "random")


@dataclass(frozen=True, kw_only=True)
class LearningOptions:
    """EAFT, LISA, ReLoRA (docs/methods.md)."""

    eaft_alpha: float | None = option(
        None,
        "Entropy-adaptive fine-tuning (https://arxiv.org/abs/2601.02151): the loss of each trained token is multiplied "
        "by the entropy of the model's prediction, to the power of eaft_alpha, so that little is learned where the "
        "model is sure of something else; 1 is usual. The evaluation loss stays the plain one. Unset: off.",
        above=0,
    )
    eaft_top_k: int = option(20, "Likeliest tokens over which that entropy is taken.", minimum=2)
    eaft_divisor: float | None = option(
        None,
        "What the entropy, in nats, is divided by. Unset: the largest it can be, log(eaft_top_k), so that weights lie "
        "between 0 and 1.",
        above=0,
    )
    lisa_layers: int | None = option(
        None,
        "LISA (https://arxiv.org/abs/2403.17919): so many decoder layers are trained at a time, chosen anew by seed "
        "every lisa_interval steps, the others are frozen; embedding, norm and output head are always trained. Unset: "
        "all layers, always.",
        minimum=1,
    )
    lisa_interval: int = option(20, "Optimizer steps after which other layers are chosen.", minimum=1)
