"""What is known of streamed data when training has ended."""

from __future__ import annotations

from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.prepare import PreparedData
from sft.training.launch import announce
from sft.training.plan import Plan, up_to_date
from sft.training.unseen_tokens import tell_unseen_tokens


def while_it_streams(data: PreparedData) -> AbstractContextManager[Any]:
    """Where training happens: at its end, or with an error, the preparation beside it ends too."""
    return nullcontext() if data.stream is None else closing(data.stream)


def plan_at_the_end(config: SFTConfig, plan: Plan, tokenizer: PreTrainedTokenizerBase) -> Plan:
    """The plan with the counts of what was prepared by now; says what the beginning could not know."""
    plan = up_to_date(config, plan)
    if plan.stream is None:
        return plan
    tell_unseen_tokens(config, tokenizer, plan.data.train.examples)
    report = plan.data.train.report
    if plan.stream.is_whole:
        announce(f"all data were prepared: {report.rows:,} rows -> {report.examples:,} examples")
    else:
        announce(
            f"training ended before all data were prepared: {report.rows:,} rows -> {report.examples:,} examples so "
            "far, which are kept; the next preparation of the same data goes on there"
        )
    return plan
