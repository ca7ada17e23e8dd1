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
    relora_steps: int | None = option(
        None,
        "ReLoRA (https://arxiv.org/abs/2307.05695): every so many optimizer steps the adapter is set aside and another "
        "one begun, so that together they change the weights by more than one could. What is saved is one adapter, as "
        "wide as all of them. Unset: one adapter.",
        minimum=1,
    )
    relora_prune_method: str = option(
        "magnitude",
        "Which of the optimizer's moments of the matrices are kept at such a beginning: the largest, or a random few.",
        choices=PRUNING,
    )
    relora_prune_ratio: float = option(0.9, "Share of those moments that is forgotten.", minimum=0, maximum=1)
    lr_restart_steps: int | None = option(
        None,
        "Optimizer steps after which the learning rate begins anew at a thousandth and rises back to its schedule, "
        "which goes on meanwhile. With ReLoRA as many as relora_steps. Unset: never.",
        minimum=2,
    )
    lr_restart_warmup_steps: int = option(10, "Optimizer steps of that rise.", minimum=1)
    lr_restart_anneal_steps: int = option(1, "Optimizer steps over which the rate falls before it.", minimum=1)
