"""axolotl's other ways to learn: entropy-adaptive losses, layers that take turns, adapters and rates begun anew."""

from __future__ import annotations

from dataclasses import replace

from sft.config.values import FALSE_WORDS, RawValue
from sft.dialects.translation import OFF, Draft, Values, is_true

LEARNING_KEYS = (
    "use_eaft", "eaft_alpha", "eaft_k", "lisa_n_layers", "lisa_step_interval", "lisa_layers_attribute",
    "jagged_restart_steps", "jagged_restart_warmup_steps", "jagged_restart_anneal_steps", "relora",
    "relora_prune_ratio", "relora_prune_method", "relora_cpu_offload",
)  # fmt: skip

NEARLY_ALL = 0.999
"""What axolotl's method reset forgets, which draws places at random."""


def translate_learning(draft: Draft, values: Values) -> None:
    """Settle every key of LEARNING_KEYS."""
    _translate_entropy(draft, values)
    _translate_turns(draft, values)
    _translate_rate(draft, values)
    _translate_restarts(draft, values)


def _translate_entropy(draft: Draft, values: Values) -> None:
    switch, alpha, count = (values.get(key) for key in LEARNING_KEYS[:3])
    if not is_true(switch):
        _ignore(draft, values, ("use_eaft",), OFF)
        _ignore(draft, values, ("eaft_alpha", "eaft_k"), "it belongs to use_eaft")
        return
    assert switch is not None
    draft.give("use_eaft", replace(switch, value=1.0 if alpha is None else alpha.value), "eaft_alpha")
    if alpha is not None:
        draft.join("eaft_alpha", alpha, "eaft_alpha")
    if count is not None:
        draft.give("eaft_k", count, "eaft_top_k")
    draft.default("eaft_divisor", 1.0, "axolotl takes the entropy in nats as it is")


def _translate_turns(draft: Draft, values: Values) -> None:
    """Both numbers must be there; one alone changes nothing there."""
    count, interval = values.get("lisa_n_layers"), values.get("lisa_step_interval")
    if count is None or interval is None:
        keys = ("lisa_n_layers", "lisa_step_interval", "lisa_layers_attribute")
        _ignore(draft, values, keys, "lisa_n_layers and lisa_step_interval do something together only")
        return
    reason = "chosen by seed, at step 0 and every lisa_step_interval steps (axolotl chooses once more at step 1)"
    draft.give("lisa_n_layers", count, "lisa_layers", reason)
    draft.give("lisa_step_interval", interval, "lisa_interval")
    _ignore(draft, values, ("lisa_layers_attribute",), "the decoder layers are found by themselves")


def _translate_rate(draft: Draft, values: Values) -> None:
    every, *details = (values.get(key) for key in LEARNING_KEYS[6:9])
    if not _is_asked(every):
        _ignore(draft, values, LEARNING_KEYS[6:9], "there are no jagged_restart_steps")
        return
    assert every is not None
    draft.give("jagged_restart_steps", every, "lr_restart_steps")
    for key, raw, target in zip(
        LEARNING_KEYS[7:9], details, ("lr_restart_warmup_steps", "lr_restart_anneal_steps"), strict=True
    ):
        if _is_asked(raw) and raw is not None:
            draft.give(key, raw, target)
        elif raw is not None:
            draft.ignore(key, raw, "off: as if it were not there")


def _translate_restarts(draft: Draft, values: Values) -> None:
    relora, every = values.get("relora"), values.get("jagged_restart_steps")
    if not is_true(relora):
        _ignore(draft, values, ("relora",), OFF)
        _ignore(draft, values, LEARNING_KEYS[10:], "it belongs to relora")
        return
    assert relora is not None
    if every is None or not _is_asked(every):
        draft.refuse("relora", "needs jagged_restart_steps, the steps between two adapters", relora.origin)
        _ignore(draft, values, LEARNING_KEYS[10:], "it belongs to relora")
        return
    reason = "every jagged_restart_steps; what is saved is one adapter as wide as all, which fits the original weights"
    draft.give("relora", replace(relora, value=every.value), "relora_steps", reason)
    method, ratio = values.get("relora_prune_method"), values.get("relora_prune_ratio")
    if method is not None:
        forgets_nearly_all = method.value == "reset"
        draft.give(
            "relora_prune_method",
            replace(method, value="random") if forgets_nearly_all else method,
            "relora_prune_method",
        )
        if forgets_nearly_all and ratio is None:
            draft.default("relora_prune_ratio", NEARLY_ALL, "what relora_prune_method: reset forgets")
    if ratio is not None:
        draft.give("relora_prune_ratio", ratio, "relora_prune_ratio")
    _ignore(draft, values, ("relora_cpu_offload",), "nothing is merged into the weights, here or elsewhere")


def _is_asked(raw: RawValue | None) -> bool:
    return raw is not None and str(raw.value).lower() not in (*FALSE_WORDS, "0")


def _ignore(draft: Draft, values: Values, keys: tuple[str, ...], reason: str) -> None:
    for key in keys:
        if key in values:
            draft.ignore(key, values[key], reason)
