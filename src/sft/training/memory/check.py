"""Before a model is loaded: what the run will need, beside what there is."""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.training.launch import announce
from sft.training.memory.estimate import Unknown, estimate
from sft.training.memory.fit import ANYWAY, Fit, refuse
from sft.training.memory.place import Place, find_place
from sft.training.memory.proposals import Proposal, describe_proposals, propose
from sft.training.memory.text import describe_fit
from sft.training.plan import Plan
from sft.training.strategy import AskedStrategy


def find_fit(
    config: SFTConfig,
    strategy: AskedStrategy,
    place: Place,
    *,
    plan: Plan | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> tuple[Fit, list[Proposal]]:
    """The estimate of a run beside the memory of a place, and where it does not fit, what would.

    Raises:
        ModelError: the model's config cannot be read.
        Unknown: nothing can be told of this model.
    """
    with torch.random.fork_rng(devices=[]):
        fit = Fit(estimate(config, strategy, place, plan=plan, tokenizer=tokenizer), place)
        found = [] if fit.fits else propose(config, strategy, place, plan=plan, tokenizer=tokenizer)
    return fit, found


def check_memory(
    config: SFTConfig, strategy: AskedStrategy, plan: Plan, tokenizer: PreTrainedTokenizerBase
) -> Fit | None:
    """Say what a run will need. None where that is not asked for, or cannot be told, which is said.

    Raises:
        ConfigError: it cannot fit, and memory_check refuses such runs.
    """
    if config.memory_check == "off":
        return None
    try:
        fit, found = find_fit(config, strategy, find_place(), plan=plan, tokenizer=tokenizer)
    except Unknown as unknown:
        announce(f"memory\n  not known beforehand for this model ({unknown})")
        return None
    advice = "" if fit.fits else describe_proposals(found)
    if fit.is_impossible and config.memory_check == "refuse":
        refuse(fit, advice)
    lines = [*describe_fit(fit), *([advice] if advice else [])]
    if fit.is_impossible:
        lines.append(f"it is begun all the same ({ANYWAY} = {config.memory_check})")
    announce("memory\n" + "\n".join(f"  {line}" for line in lines))
    return fit
