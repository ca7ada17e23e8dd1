"""Names that older transformers, TRL and our seeds use for an option, and names that are gone.

A renamed option is understood and translated with a note. Names of other tools that mean something else in detail
are only suggested (``suggestions.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sft.config.values import FALSE_WORDS, TRUE_WORDS, RawValue, shown


class Refusal(Exception):
    """An old value that has no counterpart. The text says why and what to write."""


@dataclass(frozen=True, slots=True)
class Rename:
    """How an old option is written now."""

    new: str | None
    """The option's name; None where nothing is left of it."""

    change: Callable[[Any], Any] = lambda value: value
    """The new value; raises Refusal."""

    note: str = ""
    """What to know besides the name."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """Values under today's names."""

    values: dict[str, RawValue]
    notes: list[str]
    problems: list[str]


def apply_renames(raw: Mapping[str, RawValue]) -> Renamed:
    """Translate old names and old values. What is written today's way passes untouched."""
    result = Renamed({}, [], [])
    for name, value in raw.items():
        if name not in RENAMED:
            result.values[name] = value
    for name, value in raw.items():
        if name in RENAMED:
            _apply(name, value, RENAMED[name], result)
    for name, spellings in OLD_VALUES.items():
        if name in result.values:
            result.values[name] = _respelled(name, result.values[name], spellings, result)
    return result


def _apply(name: str, raw: RawValue, rename: Rename, result: Renamed) -> None:
    where = "" if raw.origin == "python" else f" ({raw.origin})"
    try:
        value = rename.change(raw.value)
    except Refusal as refusal:
        result.problems.append(f"{name} = {shown(raw.value)}{where}: {refusal}")
        return
    if rename.new is None or value is DROPPED:
        result.notes.append(f"{name}{where} is not needed: {rename.note}")
    elif rename.new in result.values:
        given = result.values[rename.new].origin
        result.problems.append(
            f"{name}{where} is the old name of {rename.new}, which is given too ({given}). Keep one of them."
        )
    else:
        result.values[rename.new] = RawValue(value, raw.origin, raw.inner_origins)
        result.notes.append(f"{name}{where} is {rename.new} now{f'; {rename.note}' if rename.note else ''}")


def _respelled(name: str, raw: RawValue, spellings: Mapping[str, str | None], result: Renamed) -> RawValue:
    spelled = raw.value.lower() if isinstance(raw.value, str) else str(raw.value).lower()
    if raw.value is None or spelled not in spellings:
        return raw
    value = spellings[spelled]
    if value is not None:
        result.notes.append(f"{name}: {raw.value} is written {value} now")
    return RawValue(value, raw.origin)


DROPPED = object()
"""Given back by a change where the old value asks for nothing."""


def _flag(value: Any) -> bool | None:
    """An old boolean, however it is written; None for None and for what is no boolean."""
    word = str(value).lower()
    return word in TRUE_WORDS if word in (*TRUE_WORDS, *FALSE_WORDS) else None


def _only(wanted: bool, why: str) -> Callable[[Any], Any]:
    """Accept the one value that changes nothing."""

    def change(value: Any) -> Any:
        if value is None or _flag(value) is wanted:
            return DROPPED
        raise Refusal(why)

    return change


def _only_words(words: tuple[str, ...], why: str) -> Callable[[Any], Any]:
    def change(value: Any) -> Any:
        if value is None or str(value).lower() in words:
            return DROPPED
        raise Refusal(why)

    return change


def _share(value: Any) -> Any:
    """A warm-up ratio; 1 and more would be read as a count of steps."""
    try:
        ratio = float(value)
    except (TypeError, ValueError, OverflowError):
        raise Refusal("must be a share of all steps, such as 0.03.") from None
    if not 0 <= ratio < 1:
        raise Refusal("must be a share of all steps from 0 to below 1; for a number of steps use warmup_steps.")
    return value


def _adafactor(value: Any) -> Any:
    if _flag(value) is None:
        raise Refusal("must be true or false; today's way is optim: adafactor.")
    return "adafactor" if _flag(value) else DROPPED


def _always(value: Any) -> Any:
    return DROPPED


_NO_EFFECT = "transformers dropped it"
_GPU_SETUP = "the device is found by itself"

RENAMED: Mapping[str, Rename] = {
    "warmup_ratio": Rename("warmup_steps", _share, "below 1 it is a share of all steps"),
    "evaluation_strategy": Rename("eval_strategy"),
    "max_seq_length": Rename("max_length"),
    "torch_dtype": Rename("dtype"),
    "no_cuda": Rename("use_cpu"),
    "activation_checkpointing": Rename("gradient_checkpointing"),
    "activation_checkpointing_kwargs": Rename("gradient_checkpointing_kwargs"),
    "per_gpu_train_batch_size": Rename("per_device_train_batch_size"),
    "per_gpu_eval_batch_size": Rename("per_device_eval_batch_size"),
    "push_to_hub_model_id": Rename("hub_model_id"),
    "adafactor": Rename("optim", _adafactor, "optim names the optimizer"),
    "group_by_length": Rename(
        None,
        _only(False, "examples are shuffled by seed and not grouped by length. Use packing: it wastes less."),
        "examples are never grouped by length",
    ),
    "save_safetensors": Rename(
        None, _only(True, "weights are always saved as safetensors."), "weights are always saved as safetensors"
    ),
    "logging_dir": Rename(
        None,
        _always,
        "TensorBoard logs go to output_dir/runs, or where the environment variable TENSORBOARD_LOGGING_DIR says",
    ),
    "include_tokens_per_second": Rename(None, _always, "tokens per second are always measured"),
    "include_inputs_for_metrics": Rename(
        None, _only(False, "evaluation keeps the loss only."), "evaluation keeps the loss only"
    ),
    "use_mps_device": Rename(None, _always, _GPU_SETUP),
    "use_ipex": Rename(None, _only(False, _NO_EFFECT + "."), _NO_EFFECT),
    "jit_mode_eval": Rename(None, _only(False, _NO_EFFECT + "."), _NO_EFFECT),
    "half_precision_backend": Rename(None, _only_words(("auto",), "only PyTorch's own is left."), _NO_EFFECT),
    "fp16_backend": Rename(None, _only_words(("auto", "amp"), "only PyTorch's own is left."), _NO_EFFECT),
    "fp16_opt_level": Rename(None, _only_words(("o1",), "it belonged to Apex, which is gone."), _NO_EFFECT),
    "past_index": Rename(None, _only_words(("-1",), _NO_EFFECT + "."), _NO_EFFECT),
    "tpu_num_cores": Rename(None, _only_words((), "start it with `accelerate launch` for TPUs."), _NO_EFFECT),
    "tpu_metrics_debug": Rename(None, _only(False, _NO_EFFECT + "."), _NO_EFFECT),
    "ray_scope": Rename(None, _only_words(("last",), _NO_EFFECT + "."), _NO_EFFECT),
    "mp_parameters": Rename(None, _only_words(("",), _NO_EFFECT + "."), _NO_EFFECT),
    "torchdynamo": Rename(None, _only_words(("no",), "use torch_compile and torch_compile_backend."), _NO_EFFECT),
    "fsdp_min_num_params": Rename(
        None, _only_words(("0",), "write it into fsdp_config: {min_num_params: ...}."), "it lives in fsdp_config"
    ),
    "fsdp_transformer_layer_cls_to_wrap": Rename(
        None, _only_words((), "write it into fsdp_config: {transformer_layer_cls_to_wrap: ...}."), "it lives there"
    ),
}

OLD_VALUES: Mapping[str, Mapping[str, str | None]] = {
    "optim": {"adamw_hf": "adamw_torch", "adamw_apex_fused": "adamw_torch_fused"},
    "dtype": {
        "bf16": "bfloat16",
        "torch.bfloat16": "bfloat16",
        "fp16": "float16",
        "half": "float16",
        "torch.float16": "float16",
        "fp32": "float32",
        "float": "float32",
        "torch.float32": "float32",
    },
    "resume_from_checkpoint": {"true": "auto", "false": None, "none": None},
    "eval_strategy": {"false": "no"},
    "save_strategy": {"false": "no"},
}
"""Values, in lower case, and how they are written now. (A checkpoint of None is to start anew.)"""
