"""What is learned from the data: answers, plain text, or which of two answers is better."""

from __future__ import annotations

from dataclasses import dataclass

from sft.config.option import option

STAGES = ("sft", "pretrain", "dpo")
DPO_LOSS_TYPES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sigmoid_norm",
)  # fmt: skip
SMOOTHED_LOSS_TYPES = ("robust", "exo_pair", "aot", "aot_unpaired")


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """Supervised fine-tuning, further pretraining, or preference optimisation (docs/stages.md)."""

    stage: str = option(
        "sft",
        "sft: conversations, whose answers are trained. pretrain: plain texts, joined and cut into blocks of "
        "max_length. dpo: pairs of a better and a worse answer (https://arxiv.org/abs/2305.18290).",
        choices=STAGES,
    )
    isolate_documents: bool = option(
        False,
        "Pretraining: documents that share a block do not see each other. False: they stand in it one after the "
        "other, with an end token between them.",
    )
    dpo_beta: float = option(
        0.1, "DPO: how strongly the model is held to the reference model; higher holds it closer.", above=0
    )
    dpo_loss_type: str = option("sigmoid", "DPO: which loss of a pair, by TRL's name.", choices=DPO_LOSS_TYPES)
    dpo_label_smoothing: float = option(
        0.0,
        "DPO: share of pairs taken to be the wrong way round. Used by dpo_loss_type robust, exo_pair, aot and "
        "aot_unpaired.",
        minimum=0,
        maximum=0.5,
    )
    max_prompt_length: int | None = option(
        None,
        "DPO with overlong cut_start: most tokens left of the prompt of a pair that is longer than max_length; pairs "
        "that fit are not touched. Unset: as many as fit.",
        minimum=1,
    )
