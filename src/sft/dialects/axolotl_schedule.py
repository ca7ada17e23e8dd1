"""When an axolotl run saves and evaluates, and how its learning rate runs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from sft.config.values import RawValue
from sft.dialects.translation import OFF, Draft, Values, is_true

SCHEDULE_KEYS = (
    "saves_per_epoch", "save_steps", "save_strategy", "evals_per_epoch", "eval_steps", "eval_strategy",
    "evaluation_strategy", "warmup_steps", "warmup_ratio", "lr_quadratic_warmup", "lr_scheduler", "lr_scheduler_kwargs",
    "cosine_min_lr_ratio", "cosine_constant_lr_ratio", "batch_size", "gradient_accumulation_steps",
)  # fmt: skip

WARM_UP = "3 % of the steps; axolotl stops at 100 steps"


def translate_schedule(draft: Draft, values: Values) -> None:
    """Settle every key of SCHEDULE_KEYS."""
    epochs = _number(values.get("num_epochs"), 1.0)
    _translate_cadence(draft, values, "save", epochs)
    if _has_evaluation_data(values, draft):
        _translate_cadence(draft, values, "eval", epochs)
    else:
        for key in ("evals_per_epoch", "eval_steps", "eval_strategy", "evaluation_strategy"):
            if key in values:
                draft.ignore(key, values[key], "there is nothing to evaluate on")
    _translate_warm_up(draft, values)
    _translate_scheduler(draft, values)
    _translate_batch(draft, values)


def _has_evaluation_data(values: Values, draft: Draft) -> bool:
    held_out = _number(values.get("val_set_size"), 0.0) > 0
    return held_out or "test_datasets" in values or "eval_data_path" in draft.overrides


def _translate_cadence(draft: Draft, values: Values, what: str, epochs: float) -> None:
    """A count per epoch becomes a share of all steps; one save in one epoch, or nothing at all, is an epoch's end."""
    steps, strategy = f"{what}_steps", f"{what}_strategy"
    key = "saves_per_epoch" if what == "save" else "evals_per_epoch"
    count = _number(values.get(key), 0.0)
    share = 1 / (count * epochs) if count * epochs > 0 else 0.0
    named = next((values[name] for name in (strategy, "evaluation_strategy") if name in values and what in name), None)
    if key in values and 0 < share < 1:
        draft.give(
            key, replace(values[key], value=round(share, 6)), steps, f"a share of all steps: 1 / {count * epochs:g}"
        )
        draft.default(strategy, "steps")
    elif key in values and share == 1:
        draft.give(key, replace(values[key], value="epoch"), strategy)
    elif key in values:
        draft.ignore(key, values[key], "it asks for none" if share == 0 else "fewer than one an epoch: at its end")
    if steps in values:
        draft.give(steps, values[steps], steps)
        draft.default(strategy, "steps")
    if named is not None:
        _translate_strategy(draft, what, named, values)
    elif what == "eval" and key in values and count == 0 and steps not in values:
        draft.default(strategy, "no", f"{key} is 0")
    else:
        draft.default(strategy, "epoch")


def _translate_strategy(draft: Draft, what: str, named: RawValue, values: Values) -> None:
    strategy = f"{what}_strategy"
    key = strategy if strategy in values else "evaluation_strategy"
    if f"{what}_steps" in draft.values:
        draft.ignore(key, named, "the steps say it")
    elif named.value == "best":
        draft.refuse(
            key, "checkpoints are written at fixed steps. Write epoch, with load_best_model_at_end", named.origin
        )
    elif strategy in draft.values and draft.values[strategy].value == "epoch":
        draft.ignore(key, named, "once an epoch, as the count says")
    else:
        draft.give(key, named, strategy)


def _translate_warm_up(draft: Draft, values: Values) -> None:
    steps, ratio = values.get("warmup_steps"), values.get("warmup_ratio")
    if steps is not None:
        draft.give("warmup_steps", steps, "warmup_steps")
        if ratio is not None:
            draft.ignore("warmup_ratio", ratio, "warmup_steps says it")
    elif ratio is not None:
        draft.give("warmup_ratio", ratio, "warmup_steps", "a share of all steps")
    else:
        draft.default("warmup_steps", 0.03, WARM_UP)
    squared, schedule = values.get("lr_quadratic_warmup"), values.get("lr_scheduler")
    if squared is None:
        return
    if not is_true(squared):
        draft.ignore("lr_quadratic_warmup", squared, OFF)
    elif schedule is None or schedule.value == "cosine":
        draft.give("lr_quadratic_warmup", replace(squared, value="quadratic"), "warmup_shape")
    else:
        draft.ignore("lr_quadratic_warmup", squared, "axolotl passes over it but for lr_scheduler: cosine")


def _translate_scheduler(draft: Draft, values: Values) -> None:
    """A cosine that ends above zero is a schedule of its own in transformers."""
    name, floor = values.get("lr_scheduler"), values.get("cosine_min_lr_ratio")
    ends_above = floor is not None and (name is None or name.value == "cosine")
    if name is not None:
        value = "cosine_with_min_lr" if ends_above else name.value
        draft.give("lr_scheduler", replace(name, value=value), "lr_scheduler_type")
    elif ends_above:
        draft.default("lr_scheduler_type", "cosine_with_min_lr")
    if floor is not None and ends_above:
        draft.give("cosine_min_lr_ratio", replace(floor, value={"min_lr_rate": floor.value}), "lr_scheduler_kwargs")
    elif floor is not None:
        draft.refuse("cosine_min_lr_ratio", "belongs to lr_scheduler: cosine", floor.origin)
    constant = values.get("cosine_constant_lr_ratio")
    if constant is not None and _number(constant, 0.0) == 0:
        draft.ignore("cosine_constant_lr_ratio", constant, "0 asks for nothing")
    elif constant is not None:
        draft.refuse("cosine_constant_lr_ratio", "a cosine reaches its end with the run. Take it out", constant.origin)
    arguments = values.get("lr_scheduler_kwargs")
    if arguments is not None:
        draft.give("lr_scheduler_kwargs", arguments, "lr_scheduler_kwargs")


def _translate_batch(draft: Draft, values: Values) -> None:
    """batch_size, where gradient_accumulation_steps is not given, is their product with micro_batch_size."""
    total, steps = values.get("batch_size"), values.get("gradient_accumulation_steps")
    if steps is not None:
        draft.give("gradient_accumulation_steps", steps, "gradient_accumulation_steps")
    if total is None:
        return
    if steps is not None:
        draft.ignore("batch_size", total, "micro_batch_size and gradient_accumulation_steps say it")
        return
    size = _number(total, 1.0) / (_number(values.get("micro_batch_size"), 1.0) or 1.0)
    if size >= 1 and size == int(size):
        draft.give(
            "batch_size", replace(total, value=int(size)), "gradient_accumulation_steps", "over micro_batch_size"
        )
    else:
        draft.refuse(
            "batch_size", "is no multiple of micro_batch_size. Write gradient_accumulation_steps", total.origin
        )


def _number(raw: RawValue | None, otherwise: float) -> float:
    """The number in a value, however it is written; what is none is reported where the option is checked."""
    value: Any = None if raw is None else raw.value
    try:
        number = otherwise if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return otherwise
    return number if math.isfinite(number) else otherwise
