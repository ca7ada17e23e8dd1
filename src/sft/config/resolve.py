"""From raw values to checked ones: renames, names, types, ranges, then the rules across options.

Every step adds to one list of problems, so that a user sees all of them at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sft.config.candidate import Candidate
from sft.config.catalog import OPTIONS
from sft.config.checks import find_notes, find_problems
from sft.config.decided import BOUNDED, DECIDED, IGNORED, REFUSED
from sft.config.declared import Declared
from sft.config.option import Option
from sft.config.renamed import apply_renames
from sft.config.suggestions import nearest, suggest
from sft.config.training_arguments import installed_fields
from sft.config.values import Mismatch, RawValue, convert, shown

MAY_BE_EMPTY = ("system_prompt",)
HOME_PATHS = (
    "model_name_or_path",
    "tokenizer_name_or_path",
    "adapter_name_or_path",
    "data_path",
    "eval_data_path",
    "cache_dir",
    "chat_template",
    "gen_questions_file",
    "output_dir",
    "resume_from_checkpoint",
)
"""Options in which a leading ~/ is the home folder, as it is in a shell."""


@dataclass(slots=True)
class Resolved:
    """A configuration while it is being checked."""

    values: dict[str, Any] = field(default_factory=dict)
    """Our options: what was given, converted. Defaults are not in it."""

    passed: dict[str, Any] = field(default_factory=dict)
    """Other fields of transformers.TrainingArguments."""

    origins: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    wrong: set[str] = field(default_factory=set)
    """Options whose own value is a problem."""


def resolve(raw: Mapping[str, RawValue]) -> Resolved:
    """Check everything that can be checked without looking at files or the machine."""
    renamed = apply_renames(raw)
    result = Resolved(notes=renamed.notes, problems=renamed.problems)
    for name, value in renamed.values.items():
        if name in OPTIONS:
            _take_option(name, value, result)
        else:
            _take_training_argument(name, value, result)
    every = {name: entry.default for name, entry in OPTIONS.items()} | result.values | result.passed
    candidate = Candidate(every, renamed.values, frozenset(result.wrong))
    result.problems.extend(find_problems(candidate))
    result.notes.extend(find_notes(candidate))
    return result


def _take_option(name: str, raw: RawValue, result: Resolved) -> None:
    entry = OPTIONS[name]
    try:
        value = convert(raw, entry.declared)
        check_range(value, entry.option, entry.declared, may_be_empty=name in MAY_BE_EMPTY)
    except Mismatch as mismatch:
        result.wrong.add(name)
        (usual,) = raw.default or (entry.default,)
        default = "" if usual is None else f" The default is {shown(usual)}."
        result.problems.append(f"{_refusal(name, raw, mismatch, entry.declared)}{default}")
        return
    result.values[name] = _with_home(value) if name in HOME_PATHS else value
    result.origins[name] = raw.origin


def _take_training_argument(name: str, raw: RawValue, result: Resolved) -> None:
    declared = installed_fields().get(name)
    if name in IGNORED:
        result.notes.append(f"{name} is not used: {IGNORED[name]}")
    elif name in REFUSED:
        result.problems.append(f"{name}{_from(raw)} cannot be given: {REFUSED[name]}.")
    elif name in DECIDED:
        _take_decided(name, raw, declared, result)
    elif declared is not None:
        _pass_through(name, raw, declared, result)
    elif not installed_fields() and nearest(name, OPTIONS) is None:
        result.problems.append(
            f"{name}{_from(raw)} is no option of sft, and whether transformers knows it cannot be seen: "
            "it is not installed."
        )
    else:
        result.problems.append(f"{name}{_from(raw)} is no option. {suggest(name)}")


def _take_decided(name: str, raw: RawValue, declared: Declared | None, result: Resolved) -> None:
    """Fine where it asks for what is done anyway; a problem otherwise, never ignored in silence."""
    allowed, why = DECIDED[name]
    try:
        value = convert(raw, declared) if declared else raw.value
    except Mismatch as mismatch:
        result.problems.append(f"{_place(name, raw)} must be {mismatch}.")
        return
    if value in allowed:
        result.notes.append(f"{name}{_from(raw)} is not needed: {why}")
    else:
        result.problems.append(f"{_place(name, raw)} cannot be honoured: {why}. Leave {name} out.")


def _pass_through(name: str, raw: RawValue, declared: Declared, result: Resolved) -> None:
    bounds = BOUNDED.get(name, Option(help="", choices=declared.choices))
    try:
        value = convert(raw, declared)
        check_range(value, bounds, declared, may_be_empty=True)
    except Mismatch as mismatch:
        result.wrong.add(name)
        refusal = _refusal(name, raw, mismatch, declared)
        result.problems.append(f"{refusal} (transformers.TrainingArguments.{name})")
        return
    result.passed[name] = value
    result.origins[name] = raw.origin


def check_range(value: Any, option: Option, declared: Declared, *, may_be_empty: bool) -> None:
    """Hold a converted value against its option's bounds and choices.

    Raises:
        Mismatch: with the type and all bounds.
    """
    if isinstance(value, str):
        _check_text(value, option, declared, may_be_empty)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        too_low = (option.minimum is not None and value < option.minimum) or (
            option.above is not None and value <= option.above
        )
        if too_low or (option.maximum is not None and value > option.maximum):
            raise Mismatch(f"{declared.wanted()} {bounds_text(option)}")


def _check_text(value: str, option: Option, declared: Declared, may_be_empty: bool) -> None:
    if not value and not may_be_empty:
        raise Mismatch(f"{declared.wanted()}, and not empty")
    if option.choices is not None and value not in option.choices:
        near = nearest(value, option.choices)
        hint = f" (did you mean {near}?)" if near else ""
        raise Mismatch(f"one of {', '.join(option.choices)}{hint}")


def bounds_text(option: Option) -> str:
    """'of at least 1', 'above 0 and at most 10'; empty without bounds."""
    parts = [
        f"above {option.above:g}" if option.above is not None else "",
        f"of at least {option.minimum:g}" if option.minimum is not None else "",
        f"at most {_count(option.maximum)}" if option.maximum is not None else "",
    ]
    return " and ".join(part for part in parts if part)


def _count(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _with_home(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_home(item) for item in value]
    if isinstance(value, dict) and isinstance(value.get("path"), str):
        return value | {"path": _with_home(value["path"])}
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value


def _refusal(name: str, raw: RawValue, mismatch: Mismatch, declared: Declared) -> str:
    """Why a value is refused. A bare flag under another program's name is true only until it is known what it sets."""
    if raw.from_command_line and raw.value is True:
        return f"{raw.origin} needs a value after it: {declared.wanted()}."
    return f"{_place(name, raw)} must be {mismatch}."


def _place(name: str, raw: RawValue) -> str:
    """'lora_r = 'eight' (train.yaml:3)'; from the command line, the words as they were typed."""
    value = str(raw.value) if raw.from_command_line and isinstance(raw.value, str) else shown(raw.value)
    return f"{name} = {value or shown('')}{_from(raw)}"


def _from(raw: RawValue) -> str:
    return "" if raw.origin == "python" else f" ({raw.origin})"
