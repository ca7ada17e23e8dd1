"""Metrics that an axolotl run computes on its evaluation rows: each of our evaluations has perplexity, no other."""

from __future__ import annotations

from collections.abc import Mapping

from sft.config.values import RawValue
from sft.dialects.translation import OFF, Draft, is_true

METRIC_KEYS = ("do_causal_lm_eval", "eval_causal_lm_metrics")

UNASKED = ["sacrebleu", "comet", "ter", "chrf"]
"""What axolotl computes where no metric is named."""


def translate_metrics(draft: Draft, values: Mapping[str, RawValue]) -> None:
    """Settle every key of METRIC_KEYS."""
    switch, names = (values.get(key) for key in METRIC_KEYS)
    if not is_true(switch):
        if switch is not None:
            draft.ignore("do_causal_lm_eval", switch, OFF)
        if names is not None:
            draft.ignore("eval_causal_lm_metrics", names, "it belongs to do_causal_lm_eval")
        return
    assert switch is not None
    asked = UNASKED if names is None else names.value if isinstance(names.value, list) else [names.value]
    others = [str(name) for name in asked if name != "perplexity"]
    key, named = ("do_causal_lm_eval", switch) if names is None else ("eval_causal_lm_metrics", names)
    if others:
        reason = (
            f"{', '.join(others)}: not computed while training. Name perplexity alone, and eval_tasks for answers that "
            "are scored"
        )
        draft.refuse(key, reason, named.origin)
    for key, raw in zip(METRIC_KEYS, (switch, names), strict=True):
        if raw is not None and not (others and raw is named):
            reason = "every evaluation writes eval_perplexity: over its trained tokens, not in windows of the texts"
            draft.ignore(key, raw, reason)
