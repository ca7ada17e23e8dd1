"""What model families can and cannot do, where their code does not say so itself: packing, and LoRA on each layer.

State-space layers carry a state from token to token that knows nothing of ``position_ids``, and they read some of their
weights directly, past the layer that holds them, so that an adapter on such a layer is never asked. Seen in the source
of transformers 5.23 and measured on small models of each family.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sft.errors import ConfigError, ModelError

STATE = "a state runs on from one example into the next"
POSITION_IN_ROW = "its attention counts positions from the start of the row (ALiBi), not of the example"

UNPACKABLE = {
    **dict.fromkeys(
        ("mamba", "falcon_mamba", "mamba2", "bamba", "falcon_h1", "granitemoehybrid", "jamba", "nemotron_h", "zamba2"),
        STATE,
    ),
    **dict.fromkeys(("zamba", "recurrent_gemma", "rwkv", "xlstm", "qwen3_next", "lfm2", "lfm2_moe"), STATE),
    **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text", "olmo_hybrid", "minimax", "kimi_linear"), STATE),
    **dict.fromkeys(("bloom", "mpt"), POSITION_IN_ROW),
}
"""Model types whose examples see each other in a packed row, with the reason. Types not named here are put to the proof
of ``sft.training.isolation`` once the model is loaded."""


@dataclass(frozen=True)
class LoraLimits:
    """Layers of a family on which a LoRA adapter would be refused, or learn nothing."""

    refused: tuple[str, ...] = ()
    """PEFT raises an error."""

    unread: tuple[str, ...] = ()
    """The weight is read, the layer is never called: gradients are zero on every machine."""

    fused: tuple[str, ...] = ()
    """The same where the training kernels of mamba_ssm are in use (a GPU), which take the weights themselves."""


LORA_LIMITS = {
    **dict.fromkeys(
        ("mamba", "falcon_mamba"),
        LoraLimits(refused=("out_proj", "conv1d"), unread=("dt_proj",), fused=("x_proj",)),
    ),
    **dict.fromkeys(("mamba2", "falcon_h1", "nemotron_h"), LoraLimits(refused=("out_proj", "conv1d"))),
    **dict.fromkeys(("bamba", "granitemoehybrid", "zamba2"), LoraLimits(refused=("conv1d",), fused=("out_proj",))),
    "jamba": LoraLimits(refused=("conv1d",), unread=("dt_proj",)),
}


def model_type_of(config: Any) -> str:
    """The family of the language model, as transformers names it."""
    text = config.get_text_config()
    return str(getattr(text, "model_type", None) or getattr(config, "model_type", ""))


def read_past_the_layer(config: Any) -> tuple[str, ...]:
    """Last names of layers whose weight the family's code takes itself, somewhere: it must stay a plain tensor."""
    limits = LORA_LIMITS.get(model_type_of(config), LoraLimits())
    return (*limits.refused, *limits.unread, *limits.fused)


INSTEAD_OF_PACKING = {
    "packing": "shorter rows are padded on the right, which changes nothing; or packing_fallback: by_length",
    "isolate_documents": "documents then stand in a block one after the other, with an end token between them",
}
"""What a run does where examples do not share rows in isolation."""


def refuse_packing(config: Any, *, asked: str = "packing") -> None:
    """Refuse packed rows for a family that is known to let examples see each other.

    Args:
        config: of the model.
        asked: the option that asked for them: packing, or isolate_documents.

    Raises:
        ConfigError: naming the family and the reason.
    """
    family = model_type_of(config)
    if family in UNPACKABLE:
        raise ConfigError(
            f"{asked} = true, but a model of the family {family!r} cannot keep packed examples apart: "
            f"{UNPACKABLE[family]}. Set {asked} = false; {INSTEAD_OF_PACKING[asked]}."
        )


def fused_kernels_in_use() -> bool:
    """Whether state-space layers train through the kernels of mamba_ssm, which need a GPU."""
    return importlib.util.find_spec("mamba_ssm") is not None and torch.cuda.is_available()


def missing_kernels(config: Any) -> str | None:
    """What to install so that a state-space model trains fast on this machine's GPU; None where nothing is missing."""
    if model_type_of(config) not in LORA_LIMITS or not torch.cuda.is_available():
        return None
    missing = [name for name in ("mamba_ssm", "causal_conv1d") if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"its state is computed by plain PyTorch, correct but slow; {' and '.join(missing)} would be faster"


def limit_targets(
    model: nn.Module, asked: str | list[str] | None, *, fused: bool | None = None
) -> tuple[str | list[str] | None, list[str]]:
    """The LoRA targets asked for but those that PEFT refuses for this family, and notes on what was left out.

    Args:
        model: not yet adapted, with its config.
        asked: names, a regular expression, ``"all-linear"``, or None for the usual ones.
        fused: whether the kernels of mamba_ssm are in use. None: look.

    Returns:
        For a family with limits, None and ``"all-linear"`` become names. For others, what was asked for.

    Raises:
        ModelError: a target that was named could not learn anything.
    """
    config = getattr(model, "config", None)
    family = "" if config is None else model_type_of(config)
    limits = LORA_LIMITS.get(family)
    if limits is None:
        return asked, []
    fused = fused_kernels_in_use() if fused is None else fused
    dead = (*limits.unread, *(limits.fused if fused else ()))
    excluded = (*limits.refused, *dead)
    if asked is None or asked == "all-linear":
        kept, left = _linear_layers(model, excluded)
        note = f"LoRA goes on {', '.join(_last_names(kept))}; left out for {family}: {', '.join(left)}"
        return kept, [note] if left else []
    matched = _matches(model, asked)
    _refuse_dead(family, limits, [name for name in matched if name.rpartition(".")[2] in dead])
    refused = sorted({name.rpartition(".")[2] for name in matched} & set(limits.refused))
    if not refused:
        return asked, []
    kept = [name for name in matched if name.rpartition(".")[2] not in refused]
    if not kept:
        others = ", ".join(_last_names(_linear_layers(model, excluded)[0]))
        raise ModelError(
            f"target_modules names nothing but {', '.join(refused)}, on which PEFT refuses a LoRA for {family!r}: its "
            f"kernels read these weights past the adapter. Choose among: {others}."
        )
    if isinstance(asked, list):
        kept = [name for name in asked if name.rpartition(".")[2] not in refused]
    why = f"PEFT refuses a LoRA there for {family}, whose kernels read these weights past the adapter"
    return kept, [f"left out of target_modules: {', '.join(refused)} ({why})"]


def _refuse_dead(family: str, limits: LoraLimits, dead: Sequence[str]) -> None:
    unread = [name for name in _last_names(dead) if name in limits.unread]
    fused = [name for name in _last_names(dead) if name in limits.fused]
    if unread:
        raise ModelError(
            f"target_modules names {', '.join(unread)}, but a LoRA there learns nothing: {family!r} reads the weight "
            f"of that layer and never calls the layer, so its gradient is zero. Leave {', '.join(unread)} out."
        )
    if fused:
        raise ModelError(
            f"target_modules names {', '.join(fused)}, but a LoRA there learns nothing here: the kernels of mamba_ssm "
            f"take the weight of that layer past the adapter. Leave {', '.join(fused)} out, or uninstall mamba_ssm: "
            "without it training is slower and the adapter is asked."
        )


def _matches(model: nn.Module, asked: str | list[str]) -> list[str]:
    """Names of the layers that PEFT would match."""
    names = [name for name, _ in model.named_modules() if name]
    if isinstance(asked, str):
        return [name for name in names if re.fullmatch(asked, name)]
    return [name for name in names if any(name == one or name.endswith(f".{one}") for one in asked)]


def _linear_layers(model: Any, excluded: Sequence[str]) -> tuple[list[str], list[str]]:
    """Linear layers but the head: those that get an adapter, and last names of those left out.

    The first are last names (``q_proj``) where these mean linear layers only, else whole names.
    """
    head = model.get_output_embeddings()
    linear, others = [], set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not head:  # quantised ones inherit from it
            linear.append(name)
        elif name:
            others.add(name.rpartition(".")[2])
    last = _last_names(linear)
    left = [name for name in last if name in excluded]
    kept = [name for name in last if name not in excluded]
    if others & set(kept):
        kept = [name for name in linear if name.rpartition(".")[2] not in excluded]
    return kept, left


def _last_names(names: Sequence[str]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name in names})
