"""Stage dpo in a run: what is asked of TRL. It is imported only where that stage is run."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from sft.config import SFTConfig
from sft.data.collate import TrainingRows
from sft.errors import ConfigError
from sft.training.base import RunTrainer
from sft.training.plan import Plan

PACKAGE = "trl"
EXTRA = "dpo"


def require_trl(config: SFTConfig) -> None:
    """Refuse stage dpo before anything is read, where TRL is not installed.

    Raises:
        ConfigError: naming the extra that brings it.
    """
    if config.stage == "dpo" and importlib.util.find_spec(PACKAGE) is None:
        raise ConfigError(
            f"stage = dpo needs the package {PACKAGE}, which is not installed: pip install 'sft-kit[{EXTRA}]'."
        )


def arguments_of_stage(config: SFTConfig) -> tuple[type[TrainingArguments], dict[str, Any]]:
    """The class of the arguments, and the fields that it has beside those of transformers."""
    if config.stage != "dpo":
        return TrainingArguments, {}
    from trl import DPOConfig

    return DPOConfig, {
        "beta": config.dpo_beta,
        "loss_type": [config.dpo_loss_type],
        "label_smoothing": config.dpo_label_smoothing,
        "max_length": None,  # pairs fit already, and TRL would cut the end of an answer
    }


def preference_trainer(
    config: SFTConfig,
    *,
    plan: Plan,
    model: PreTrainedModel,
    reference: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
    pad_token_id: int,
    args: Any,
    callbacks: Sequence[TrainerCallback],
) -> RunTrainer:
    """The trainer over the plan's pairs; see ``PreferenceTrainer``."""
    from sft.training.dpo import PreferenceTrainer

    data = plan.data
    return PreferenceTrainer(
        model=model,
        reference=reference,
        adapter_is_new=config.adapter_name_or_path is None,
        args=args,
        tokenizer=tokenizer,
        pad_token_id=pad_token_id,
        train_rows=TrainingRows(data.train.examples, plan.train_packs),
        eval_rows=None if data.eval is None else TrainingRows(data.eval.examples, plan.eval_packs),
        callbacks=callbacks,
    )
