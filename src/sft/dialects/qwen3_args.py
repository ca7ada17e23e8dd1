"""The command line of ``train_sft.py``. Its names are ours but for two, so the rest of our options work there too.

Two of its defaults are not taken over, for they only limited it: ``format_type alpaca`` (the rows show their format)
and four processes that load rows (rows are prepared before training).
"""

from __future__ import annotations

import importlib.util
import netrc
import os
from dataclasses import replace
from urllib.parse import urlsplit

from sft.config.values import FALSE_WORDS, TRUE_WORDS, RawValue
from sft.dialects.translation import Draft, Translation, Values

NAME = "qwen3_args"

INVERTED = {"no_chat_template": "use_chat_template", "no_eval": "do_eval"}


def recognises(values: Values) -> bool:
    """Never: this is a command line, and a file of these names is written in our own dialect."""
    return False


def translate(values: Values, overrides: Values) -> Translation:
    """``values``: the command line, by option; ``overrides`` is empty, for nothing comes after it."""
    draft = Draft(NAME, overrides)
    for key, raw in values.items():
        if key in INVERTED:
            draft.give(key, replace(raw, value=_inverted(raw.value)), INVERTED[key])
        elif key == "report_to":
            _translate_trackers(draft, raw)
        else:
            draft.take(key, raw, INVERTED)
    _apply_defaults(draft)
    return draft.finish()


def _translate_trackers(draft: Draft, raw: RawValue) -> None:
    """W&B asks for a key where it has none; a training script must never wait for an answer."""
    words = raw.value if isinstance(raw.value, list) else str(raw.value).split(",")
    missing = why_no_wandb() if "wandb" in words else None
    if missing is None:
        draft.give("report_to", raw, "report_to")
    else:
        others = [word for word in words if word != "wandb"]
        draft.give("report_to", replace(raw, value=others or "none"), "report_to", f"without wandb: {missing}")


def _apply_defaults(draft: Draft) -> None:
    missing = why_no_wandb()
    draft.default("report_to", "none" if missing else "wandb", missing or "W&B is installed and set up")
    draft.default("model_dir", ".", "model and tokenizer lie in output_dir itself")
    if _evaluates(draft.values) and _saves_what_it_evaluates(draft.values):
        draft.default("load_best_model_at_end", True, "the checkpoint of the lowest evaluation loss is the one kept")


def _evaluates(values: Values) -> bool:
    held_out = any(name in values for name in ("eval_data_path", "validation_size"))
    return held_out and not ("do_eval" in values and _word(values["do_eval"].value) in FALSE_WORDS)


def _saves_what_it_evaluates(values: Values) -> bool:
    """The best checkpoint can be found only where every saved step is an evaluated one."""
    steps = [_word(values[name].value) if name in values else "500" for name in ("eval_steps", "save_steps")]
    strategies = {_word(values[name].value) for name in ("eval_strategy", "save_strategy") if name in values}
    evaluated, saved = (int(step) if step.isdigit() else 0 for step in steps)
    return not strategies - {"steps"} and evaluated > 0 and saved > 0 and saved % evaluated == 0


def why_no_wandb() -> str | None:
    """Why W&B would fail or stop to ask for a key; None where it would do neither."""
    if importlib.util.find_spec("wandb") is None:
        return "wandb is not installed (pip install wandb)"
    if os.environ.get("WANDB_MODE") or os.environ.get("WANDB_API_KEY") or _has_stored_key():
        return None
    return "wandb has no key (run wandb login, or set WANDB_MODE=offline)"


def _has_stored_key() -> bool:
    """Whether ``wandb login`` has left a key in the user's netrc file."""
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _inverted(value: object) -> object:
    """The opposite of a boolean, however it is written; anything else is left for SFTConfig to refuse."""
    word = _word(value)
    return (word in FALSE_WORDS) if word in (*TRUE_WORDS, *FALSE_WORDS) else value


def _word(value: object) -> str:
    return str(value).lower()
