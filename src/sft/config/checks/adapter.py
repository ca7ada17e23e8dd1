"""Rules about which weights are trained: an adapter, some layers, or all."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sft.config.candidate import Candidate

ADAPTER_OPTIONS = (
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "modules_to_save",
    "lora_bias",
    "use_rslora",
    "use_dora",
    "exclude_modules",
    "target_parameters",
    "layers_to_transform",
    "init_lora_weights",
    "loraplus_lr_ratio",
    "adapter_name_or_path",
)
INITIALISATIONS = ("default", "gaussian", "orthogonal", "olora", "pissa", "loftq")


def adapter_options_without_adapter(candidate: Candidate) -> Iterator[str]:
    """An explicit ``use_lora: false`` beside default values is a switch somebody flips, not a mistake."""
    if candidate.use_lora:
        return
    for name in ADAPTER_OPTIONS:
        if candidate.is_given(name) and (candidate.differs(name) or not candidate.is_given("use_lora")):
            yield f"{candidate.at(name)} without use_lora would be ignored. Set use_lora to true, or leave {name} out."


def freezing_with_adapter(candidate: Candidate) -> Iterator[str]:
    """Under an adapter the whole model is frozen already."""
    if not candidate.use_lora:
        return
    for name, instead in (("trainable_layers", "layers_to_transform"), ("trainable_modules", "modules_to_save")):
        if getattr(candidate, name) is not None:
            yield (
                f"{candidate.at(name)} with use_lora: it chooses among the model's own weights, which an adapter "
                f"leaves frozen. Choose with {instead}, or leave use_lora out."
            )


def freezing_everything(candidate: Candidate) -> Iterator[str]:
    if candidate.trainable_layers == 0 and not candidate.trainable_modules:
        yield (
            f"{candidate.at('trainable_layers')} would train nothing. Give a number of layers, or leave it out to "
            "train them all."
        )
    if candidate.trainable_modules == [] and candidate.trainable_layers is None:
        yield f"{candidate.at('trainable_modules')} would train nothing. Name weights, or leave it out to train all."


def unknown_initialisation(candidate: Candidate) -> Iterator[str]:
    given = candidate.init_lora_weights
    if given in INITIALISATIONS or re.fullmatch(r"pissa_niter_[1-9]\d*", given):
        return
    reason = "needs options of its own that sft has not" if given in ("eva", "corda", "lora_ga") else "unknown"
    yield f"{candidate.at('init_lora_weights')} is {reason}. Choose among {', '.join(INITIALISATIONS)}, pissa_niter_16."


def initialisation_that_changes_quantised_weights(candidate: Candidate) -> Iterator[str]:
    """Both take their part out of the base weight; what is left would be rounded to 4 bits anew."""
    if not candidate.init_lora_weights.startswith(("pissa", "olora")) or candidate.adapter_name_or_path is not None:
        return
    for name in ("load_in_4bit", "load_in_8bit"):
        if getattr(candidate, name):
            yield (
                f"{candidate.at('init_lora_weights')} with {candidate.at(name)}: the adapter would start from other "
                "weights than the quantised ones and not fit the model. Use init_lora_weights default, or no "
                "quantisation."
            )


def start_that_makes_up_for_no_rounding(candidate: Candidate) -> Iterator[str]:
    """LoftQ begins with what 4 bits lost; DoRA would measure the lengths of its columns before that."""
    if candidate.init_lora_weights != "loftq" or candidate.adapter_name_or_path is not None:
        return
    if not candidate.load_in_4bit:
        yield (
            f"{candidate.at('init_lora_weights')} without load_in_4bit: there is no rounding to make up for. Set "
            "load_in_4bit, or init_lora_weights: default."
        )
    if candidate.use_dora:
        yield f"{candidate.at('init_lora_weights')} with {candidate.at('use_dora')}: choose one."


def merged_folder_without_adapter(candidate: Candidate) -> Iterator[str]:
    if candidate.merged_dir is not None and not candidate.use_lora:
        yield (
            f"{candidate.at('merged_dir')} without use_lora: there is no adapter to merge. "
            "Leave merged_dir out; model_dir gets the whole model."
        )


def shape_of_a_loaded_adapter(candidate: Candidate) -> Iterator[str]:
    if candidate.adapter_name_or_path is None:
        return
    for name in ADAPTER_OPTIONS:
        if name not in ("adapter_name_or_path", "loraplus_lr_ratio") and candidate.is_given(name):
            yield f"{candidate.at(name)} is not used: adapter_name_or_path brings its own"


ADAPTER_RULES = (
    adapter_options_without_adapter,
    freezing_with_adapter,
    freezing_everything,
    unknown_initialisation,
    initialisation_that_changes_quantised_weights,
    start_that_makes_up_for_no_rounding,
    merged_folder_without_adapter,
)
ADAPTER_REMARKS = (shape_of_a_loaded_adapter,)
