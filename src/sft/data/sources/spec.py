"""What `data_path` asks for, as one SourceSpec per source."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sft.config.data import COLUMN_NAMES, FORMAT_TYPES, TURN_MEANINGS
from sft.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """One file, folder or hub data set, and how much of it is wanted."""

    path: str
    """File or folder as the user named it, or name of a hub data set."""

    subset: str | None = None
    """Configuration of a hub data set; of a folder, the folder within it."""

    split: str = "train"
    """Split of a hub data set; of a folder, the files named so; of a JSON file that holds several lists, the list."""

    revision: str | None = None
    """Branch, tag or commit of a hub data set."""

    data_files: Sequence[str] = ()
    """Files of a hub data set that are read, by their path in it; none means all of the split."""

    format_type: str | None = None
    """How its rows are written; None leaves it to be found out from them."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of its columns, where they differ from the format's own."""

    weight: float = 1.0
    """How often each conversation is seen in an epoch: 2 is twice, 0.5 a seeded random half, 2.5 twice and a half."""

    limit: int | None = None
    """Most rows read, the first in file order; taken before ``weight``."""

    sample: int | None = None
    """Conversations taken by seed, in place of ``weight``; where there are fewer, some are seen several times."""

    only_columns: bool = False
    """Read no optional column (input, system, history, tools, weight) that ``columns`` does not name."""

    role_names: Mapping[str, str] = field(default_factory=dict)
    """What its roles mean, over those that hold for every source."""

    role_key: str | None = None
    """Key of a turn under which its role stands; None: role or from."""

    content_key: str | None = None
    """Key of a turn under which its text stands; None: content or value."""

    drop_system: bool = False
    """Leave the system messages of its conversations out."""

    response_prefix: str = ""
    """What every answer begins with, before what the row has. For questions and answers in columns."""

    option: str = "data_path"
    """The option that names it, for messages."""


def parse_sources(
    data_path: str | os.PathLike[str] | Mapping[str, Any] | Sequence[Any],
    *,
    split: str = "train",
    revision: str | None = None,
    format_type: str | None = None,
    columns: Mapping[str, str] | None = None,
    option: str = "data_path",
) -> list[SourceSpec]:
    """Read `data_path`, or another ``option`` like it: a string, a mapping, or a list of both.

    A string with commas names several sources unless a file of that very name exists. The other arguments hold for
    every source whose entry does not say otherwise; columns of an entry are laid over the general ones.

    Raises:
        ConfigError: every entry that cannot be understood, with the nearest key that exists.
    """
    entries = _entries(data_path)
    problems: list[str] = [] if entries else [f"{option} is empty; name a file, a folder or a hub data set"]
    problems += check_columns(columns or {})
    general = {"split": split, "revision": revision, "format_type": format_type, "option": option}
    specs = []
    for number, entry in enumerate(entries, 1):
        where = f"{option}[{number}]" if len(entries) > 1 else option
        values, found = _entry_values(entry, where)
        problems += found
        if not found:
            values["columns"] = {**(columns or {}), **values.get("columns", {})}
            specs.append(SourceSpec(**{**general, **values}))
    if problems:
        raise ConfigError(problems)
    return specs


def check_columns(columns: Mapping[str, Any], where: str = "columns") -> list[str]:
    """Return what is wrong with a `columns` mapping."""
    problems = [
        f"{where}: unknown key {key!r}{nearest(key, COLUMN_NAMES) or '.'} Keys are {', '.join(COLUMN_NAMES)}; values "
        "are the names of your columns"
        for key in columns
        if key not in COLUMN_NAMES
    ]
    problems += [
        f"{where}.{key} is {value!r}, which is not the name of a column"
        for key, value in columns.items()
        if not isinstance(value, str) or not value
    ]
    return problems


def nearest(name: object, known: Sequence[str]) -> str:
    """Return '; did you mean X?' or nothing."""
    match = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def _entries(data_path: str | os.PathLike[str] | Mapping[str, Any] | Sequence[Any]) -> list[Any]:
    entries: list[Any] = []
    listed = [data_path] if isinstance(data_path, str | os.PathLike | Mapping) else data_path
    for entry in listed:
        if isinstance(entry, str) and "," in entry and not os.path.exists(os.path.expanduser(entry)):
            entries += [part.strip() for part in entry.split(",") if part.strip()]
        elif entry != "":
            entries.append(entry)
    return entries


def _entry_values(entry: Any, where: str) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of one entry and what is wrong with it."""
    if isinstance(entry, str | os.PathLike):
        return _split_subset(os.fspath(entry)), []
    if not isinstance(entry, Mapping):
        return {}, [f"{where} is {entry!r}; write a path, a hub name, or a mapping with at least path"]
    known = tuple(one.name for one in fields(SourceSpec) if one.name != "option")
    problems = [f"{where}: unknown key {key!r}{nearest(key, known)}" for key in entry if key not in known]
    if not isinstance(entry.get("path"), str) or not entry["path"]:
        problems.append(f"{where} has no path; write the file, folder or hub data set as path")
        return {}, problems
    values = _split_subset(entry["path"])
    values |= {key: value for key, value in entry.items() if value is not None and key != "path"}
    problems += _read_numbers(values, where)
    return values, problems + _check_texts(values, where)


def _read_numbers(values: dict[str, Any], where: str) -> list[str]:
    """Turn weight, limit and sample into numbers in place; returns what is wrong with them."""
    problems = []
    if "weight" in values:
        weight = _number(values["weight"])
        if weight is None or weight <= 0:
            problems.append(f"{where}.weight is {values['weight']!r}; it must be a number above 0")
        values["weight"] = weight
    for name in ("limit", "sample"):
        if name in values:
            count = _number(values[name])
            if count is None or count < 1 or count % 1:
                problems.append(f"{where}.{name} is {values[name]!r}; it must be a whole number of rows, from 1 on")
            values[name] = None if count is None else int(count)
    if "sample" in values and "weight" in values:
        problems.append(f"{where} has sample and weight, which both say how much of it is seen; keep one")
    return problems


def _check_texts(values: Mapping[str, Any], where: str) -> list[str]:
    problems = [
        f"{where}.{key} is {values[key]!r}; it must be text"
        for key in ("subset", "split", "revision", "format_type", "role_key", "content_key", "response_prefix")
        if not isinstance(values.get(key, ""), str)
    ]
    format_type = values.get("format_type")
    if isinstance(format_type, str) and format_type not in FORMAT_TYPES:
        hint = nearest(format_type, FORMAT_TYPES)
        problems.append(f"{where}.format_type is {format_type!r}{hint}; known are {', '.join(FORMAT_TYPES)}")
    for name in ("only_columns", "drop_system"):
        if not isinstance(values.get(name, False), bool):
            problems.append(f"{where}.{name} is {values[name]!r}; write true or false")
    files = values.get("data_files", [])
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        problems.append(f"{where}.data_files is {files!r}; write a list of paths within the data set")
    problems += _check_roles(values.get("role_names", {}), f"{where}.role_names")
    columns = values.get("columns", {})
    if not isinstance(columns, Mapping):
        return [*problems, f"{where}.columns is {columns!r}; write a mapping such as {{prompt: question}}"]
    return problems + check_columns(columns, f"{where}.columns")


def _check_roles(role_names: Any, where: str) -> list[str]:
    if not isinstance(role_names, Mapping):
        return [f"{where} is {role_names!r}; write a mapping such as {{bot: assistant}}"]
    return [
        f"{where}: {role!r} cannot mean {meaning!r}; values are {', '.join(TURN_MEANINGS)}"
        for role, meaning in role_names.items()
        if meaning not in TURN_MEANINGS
    ]


def _number(value: Any) -> float | None:
    """Return a finite number, also one that YAML read as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _split_subset(path: str) -> dict[str, Any]:
    """Take `name:subset` apart, unless a file has that name."""
    name, colon, subset = path.rpartition(":")
    is_subset = bool(colon and name and subset) and "/" not in subset and "\\" not in subset
    if is_subset and not os.path.exists(os.path.expanduser(path)):
        return {"path": name, "subset": subset}
    return {"path": path}
