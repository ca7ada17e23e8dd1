"""axolotl's other ways to learn: entropy-adaptive losses, layers that take turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sft.config.values import RawValue
from sft.dialects.translation import OFF, Draft, is_true

LEARNING_KEYS = ("use_eaft", "eaft_alpha", "eaft_k", "lisa_n_layers", "lisa_step_interval", "lisa_layers_attribute")

Values = Mapping[str, RawValue]


def translate_learning(draft: Draft, values: Values) -> None:
    """Settle every key of LEARNING_KEYS."""
    _translate_entropy(draft, values)
    _translate_turns(draft, values)


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


def _ignore(draft: Draft, values: Values, keys: tuple[str, ...], reason: str) -> None:
    for key in keys:
        if key in values:
            draft.ignore(key, values[key], reason)
