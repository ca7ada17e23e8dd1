"""Figures under names that say what they count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAINING = {
    "loss": "train/loss_per_trained_token",
    "grad_norm": "train/gradient_norm_before_clipping",
    "learning_rate": "train/learning_rate",
    "epoch": "train/epochs_done",
    "tokens": "train/tokens_since_last_logged",
    "trained_tokens": "train/trained_tokens_since_last_logged",
    "tokens_per_second": "speed/tokens_per_second",
    "trained_tokens_per_second": "speed/trained_tokens_per_second",
    "eval_loss": "eval/loss_per_trained_token",
    "eval_perplexity": "eval/perplexity_per_trained_token",
    "eval_trained_tokens": "eval/trained_tokens",
    "eval_seconds": "eval/seconds",
    "eval_combined_score": "score/combined",
    "eval_mean_score": "score/mean",
    "train_loss": "run/mean_loss_of_steps",
    "train_runtime": "run/seconds_of_training",
    "train_samples_per_second": "run/rows_per_second",
    "train_steps_per_second": "run/steps_per_second",
    "total_flos": "run/floating_point_operations",
}
"""Logged name -> name in trackers."""

PAIRS = {"loss": "train/loss_per_pair", "eval_loss": "eval/loss_per_pair"}
"""The same where preferences are learnt."""


def named(figures: Mapping[str, Any], *, of_pairs: bool = False) -> dict[str, float]:
    """Numbers under the names that trackers show; what is no number stays out.

    A name that is not known keeps its own, under ``eval/`` or ``train/``. Scores of tasks are named by those who know
    their metric.
    """
    known = {**TRAINING, **PAIRS} if of_pairs else TRAINING
    return {known.get(name) or _grouped(name): float(value) for name, value in figures.items() if _is_number(value)}


def _grouped(name: str) -> str:
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
