"""``dataset_info.json``: LLaMA-Factory's names of data sets, as entries of ``data_path``.

Names, keys and defaults: https://github.com/hiyouga/LLaMA-Factory, ``src/llamafactory/data/parser.py`` at ff6d4d12.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sft.errors import ConfigError

INFO = "dataset_info.json"
ENDINGS = (".json", ".jsonl", ".csv", ".parquet")

KEYS = (
    "file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "formatting", "ranking",
    "subset", "split", "folder", "num_samples", "columns", "tags",
)  # fmt: skip
COLUMNS: Mapping[str, str] = {
    "prompt": "prompt",
    "query": "input",
    "response": "response",
    "history": "history",
    "messages": "messages",
    "system": "system",
    "tools": "tools",
    "chosen": "chosen",
    "rejected": "rejected",
}
USUAL: Mapping[str, str] = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "messages": "conversations",
}
"""Columns that are read where an entry has no ``columns`` at all."""

MEDIA = ("images", "videos", "audios")
TAGS: Mapping[str, str] = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}
TURN_KEYS: Mapping[str, str] = {"role_tag": "role_key", "content_tag": "content_key"}
FORMATS: Mapping[str, str] = {"alpaca": "alpaca", "sharegpt": "sharegpt", "openai": "messages"}
USED: Mapping[str, tuple[str, ...]] = {
    "alpaca": ("prompt", "query", "response", "history", "system", "tools"),
    "sharegpt": ("messages", "system", "tools"),
    "openai": ("messages", "system", "tools"),
}
"""Columns that a format reads; others that an entry names are for another stage."""


@dataclass(slots=True)
class Sources:
    """Entries of ``data_path``, and what stands against them."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_sources(names: Any, *, dataset_dir: str, stage: str, max_samples: int | None) -> Sources:
    """Look up data sets by name.

    Args:
        names: a list, or text with commas.
        dataset_dir: the folder with ``dataset_info.json``; ONLINE: the names are names on the hub.
        stage: ours: sft, pretrain or dpo.
        max_samples: most rows of each.
    """
    found = Sources()
    wanted = [str(name).strip() for name in (names if isinstance(names, list) else str(names).split(","))]
    try:
        infos = None if dataset_dir == "ONLINE" else read_infos(dataset_dir)
    except ConfigError as error:
        found.problems += error.problems
        return found
    for name in filter(None, wanted):
        if infos is None:
            _add(found, name, {"hf_hub_url": name}, dataset_dir, stage, max_samples)
        elif name in infos:
            _add(found, name, infos[name], dataset_dir, stage, max_samples)
        else:
            path = os.path.join(dataset_dir, INFO)
            found.problems.append(
                f"there is no data set {name!r} in {path}{_near(name, infos) or '.'} It names {_some(infos)}"
            )
    return found


def read_infos(dataset_dir: str) -> dict[str, Any]:
    """The descriptions of all data sets by name.

    Raises:
        ConfigError: the file is not there or cannot be read.
    """
    if dataset_dir.startswith("REMOTE:"):
        repository = dataset_dir.removeprefix("REMOTE:")
        raise ConfigError(
            f"dataset_dir {dataset_dir!r} is fetched from the hub, and reading a configuration fetches nothing. Fetch "
            f"it (hf download {repository} --repo-type dataset --local-dir data) and write dataset_dir: data"
        )
    path = os.path.join(os.path.expanduser(dataset_dir), INFO)
    try:
        with open(path, encoding="utf-8") as file:
            infos = json.load(file)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}); it says what each name in dataset means. Name its folder with "
            "dataset_dir, or give the data itself with --data_path"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    if not isinstance(infos, dict) or not all(isinstance(info, dict) for info in infos.values()):
        raise ConfigError(f"{path} must be an object with an object for each data set")
    return infos


def _add(
    found: Sources, name: str, info: Mapping[str, Any], dataset_dir: str, stage: str, max_samples: int | None
) -> None:
    """Enter one data set; every problem names it and the file."""
    where = (
        f"data set {name!r} in {os.path.join(dataset_dir, INFO)}" if dataset_dir != "ONLINE" else f"data set {name!r}"
    )
    problems = _check(info, stage)
    endings = (*ENDINGS, ".txt") if stage == "pretrain" else ENDINGS
    place_problems = [] if problems else problems  # of rows that are not trained on no file is missed
    entry = _place(info, dataset_dir, endings, place_problems)
    entry |= _text_layout(info, problems) if stage == "pretrain" else _layout(info, problems)
    if isinstance(info.get("split"), str):
        entry["split"] = info["split"]
    entry |= _amount(info, max_samples, problems)
    found.problems += [f"{where}: {problem}" for problem in problems]
    found.entries.append(entry)
    unknown = [key for key in info if key not in KEYS]
    if entry["path"].endswith(".txt"):
        found.notes.append(f"{name}: the file is one text, and not one a line")
    if unknown:
        found.notes.append(f"{name}: {', '.join(unknown)} in {INFO} mean nothing")


def _check(info: Mapping[str, Any], stage: str) -> list[str]:
    """What is wrong with the description itself."""
    problems = [
        f"{key!r} is no key of it{_near(key, KEYS)}"
        for key in info
        if key not in KEYS and difflib.get_close_matches(key, KEYS, n=1, cutoff=0.8)
    ]
    if info.get("formatting", "alpaca") not in FORMATS:
        problems.append(f"formatting is {info['formatting']!r}; known are {', '.join(FORMATS)}")
    columns = _mapping(info, "columns", problems)
    tags = _mapping(info, "tags", problems)
    known = (*COLUMNS, *MEDIA, "kto_tag")
    problems += [f"columns: unknown key {key!r}{_near(key, known)}" for key in columns if key not in known]
    known = (*TAGS, *TURN_KEYS)
    problems += [f"tags: unknown key {key!r}{_near(key, known)}" for key in tags if key not in known]
    media = [key for key in MEDIA if columns.get(key)]
    if media:
        problems.append(f"its rows have {' and '.join(media)}, and sft trains on text. Leave it out")
    if columns.get("kto_tag"):
        problems.append("its answers are marked good or bad (kto_tag), and KTO is not done here")
    if bool(info.get("ranking")) != (stage == "dpo"):
        problems.append(
            f"its rows are pairs of answers (ranking), which stage {stage} does not train on. Set stage: dpo"
            if info.get("ranking")
            else "its rows are no pairs of answers (ranking is not true), and stage dpo compares two"
        )
    return problems


def _mapping(info: Mapping[str, Any], key: str, problems: list[str]) -> Mapping[str, Any]:
    if info.get(key) and not _named(info, key):
        problems.append(f"{key} is {info[key]!r}; it must be a mapping to text")
    return _named(info, key)


def _named(info: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """``columns`` or ``tags``; empty where it is none."""
    found = info.get(key) or {}
    is_mapping = isinstance(found, Mapping) and all(value is None or isinstance(value, str) for value in found.values())
    return found if is_mapping else {}


def _place(info: Mapping[str, Any], dataset_dir: str, endings: tuple[str, ...], problems: list[str]) -> dict[str, Any]:
    """``path`` and ``subset``: a name on the hub, or a file or folder within dataset_dir."""
    if "hf_hub_url" in info:
        subset = {"subset": info["subset"]} if info.get("subset") else {}
        files = {"data_files": [f"{info['folder']}/**"]} if info.get("folder") else {}
        return {"path": str(info["hf_hub_url"]), **subset, **files}
    for key, why in (
        ("ms_hub_url", "ModelScope is not read from. Fetch it and name the file"),
        ("om_hub_url", "Modelers is not read from. Fetch it and name the file"),
        ("script_url", "programs that make data are not run. Run it and name the file it makes"),
        ("cloud_file_name", "cloud storage is not read from. Fetch it and name the file"),
    ):
        if key in info:
            problems.append(f"{key}: {why} as file_name")
            return {"path": str(info[key])}
    if not isinstance(info.get("file_name"), str):
        problems.append("it has neither file_name nor hf_hub_url")
        return {"path": "?"}
    return {"path": _local_path(info["file_name"], dataset_dir, endings, problems)}


def _local_path(file_name: str, dataset_dir: str, endings: tuple[str, ...], problems: list[str]) -> str:
    folder = os.path.expanduser(dataset_dir)
    path = os.path.join(folder, file_name)
    if not os.path.exists(path):
        there = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        problems.append(f"there is no file {path}{_near(file_name, there)}")
    elif os.path.isfile(path) and not path.endswith(endings):
        problems.append(f"{path} must end in one of {', '.join(endings)}. Convert or rename it")
    return path


def _layout(info: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """How rows and turns are written."""
    formatting = info.get("formatting", "alpaca")
    ranking = bool(info.get("ranking"))
    given = _named(info, "columns") or USUAL
    used = tuple(name for name in USED.get(formatting, ()) if not (ranking and name == "response"))
    columns = {COLUMNS[name]: given[name] for name in used if given.get(name)}
    if ranking:
        columns |= {name: given[name] for name in ("chosen", "rejected") if given.get(name)}
    missing = [name for name in _needed(formatting, ranking) if COLUMNS[name] not in columns]
    problems += [f"columns names no {name}, which formatting {formatting} needs" for name in missing]
    entry: dict[str, Any] = {"format_type": FORMATS.get(formatting), "columns": columns, "only_columns": True}
    tags = _named(info, "tags")
    roles = {tags[tag]: meaning for tag, meaning in TAGS.items() if tags.get(tag)}
    entry |= {key: tags[tag] for tag, key in TURN_KEYS.items() if tags.get(tag)}
    return entry | ({"role_names": roles} if roles and formatting != "alpaca" else {})


def _needed(formatting: str, ranking: bool) -> tuple[str, ...]:
    questions = ("prompt",) if formatting == "alpaca" else ("messages",)
    return questions + (("response",) if formatting == "alpaca" and not ranking else ())


def _text_layout(info: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """For stage pretrain the text of a row is its prompt."""
    given = _named(info, "columns") or USUAL
    if info.get("formatting", "alpaca") != "alpaca" or not given.get("prompt") or given.get("query"):
        problems.append("texts to train on are one column: write columns: {prompt: NAME} and no formatting")
    return {"format_type": "text", "columns": {"text": given.get("prompt", "text")}, "only_columns": True}


def _amount(info: Mapping[str, Any], max_samples: int | None, problems: list[str]) -> dict[str, Any]:
    """num_samples is a random choice, max_samples are the first rows; the fewer of both count."""
    sample = info.get("num_samples")
    if sample is None:
        return {} if max_samples is None else {"limit": max_samples}
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 1:
        problems.append(f"num_samples is {sample!r}; it must be a whole number from 1 on")
        return {}
    return {"sample": sample if max_samples is None else min(sample, max_samples)}


def _near(name: str, known: Iterable[str]) -> str:
    match = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(match)}?" if match else ""


def _some(names: Sequence[str] | Mapping[str, Any]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return ", ".join(listed[:8]) + more if listed else "none"
