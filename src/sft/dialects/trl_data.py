"""The data of a TRL configuration: one data set, TRL's list of them, or the mixtures of its recipes.

alignment-handbook and open-r1 are TRL with a mixture of their own: ``dataset_mixture`` (id, config, split, weight), and
before it ``dataset_mixer`` with one list of splits for all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sft.config.values import RawValue
from sft.dialects.translation import EMPTY, Draft, Values

SINGLE = ("dataset_name", "dataset_config", "dataset_train_split", "dataset_test_split")
MIXTURES = ("datasets", "dataset_mixture", "dataset_mixer")
ENTRY = {"path": "path", "id": "path", "name": "subset", "config": "subset", "split": "split", "weight": "weight"}
"""Keys of one data set of a list or mixture, and those of an entry of data_path."""

FILE_KINDS = ("json", "csv", "parquet", "text")
"""Names under which ``datasets`` reads plain files."""

CHAT_COLUMN = "messages"


def translate_data(draft: Draft, values: Values, *, evaluates: bool) -> None:
    """Settle every key of SINGLE and MIXTURES, and the two that belong to them."""
    if "datasets" in values:
        _translate_list(draft, values)
    elif "dataset_mixture" in values:
        _translate_mixture(draft, values["dataset_mixture"], evaluates=evaluates)
    elif "dataset_mixer" in values:
        _translate_mixer(draft, values, evaluates=evaluates)
    elif "dataset_name" in values:
        _translate_single(draft, values, evaluates=evaluates)
    _translate_test_size(draft, "test_split_size", values.get("test_split_size"), evaluates=evaluates)
    settled = {note.key.partition(".")[0] for note in draft.notes}
    for key in (*SINGLE, *MIXTURES, "dataset_configs", "dataset_splits"):
        if key in values and key not in settled:
            draft.ignore(key, values[key], "the list of data sets takes its place, as in TRL")


def _translate_single(draft: Draft, values: Values, *, evaluates: bool) -> None:
    name = values["dataset_name"]
    subset = values["dataset_config"].value if "dataset_config" in values else None
    source = {"path": name.value} | ({"subset": subset} if subset else {})
    draft.give("dataset_name", replace(name, value=[source] if subset else name.value), "data_path")
    if "dataset_config" in values:
        draft.join("dataset_config", values["dataset_config"], "data_path")
    if "dataset_train_split" in values:
        draft.give("dataset_train_split", values["dataset_train_split"], "data_split")
    test = values.get("dataset_test_split")
    if not evaluates:
        if test is not None:
            draft.ignore("dataset_test_split", test, "eval_strategy is no: nothing is evaluated")
        return
    held_out = [source | {"split": test.value if test is not None else "test"}]
    if test is not None:
        draft.give("dataset_test_split", replace(test, value=held_out), "eval_data_path")
    elif "test_split_size" not in values:
        draft.default("eval_data_path", held_out, "TRL evaluates on the split test")


def _translate_list(draft: Draft, values: Values) -> None:
    raw = values["datasets"]
    if not isinstance(raw.value, list) or not all(isinstance(entry, Mapping) for entry in raw.value):
        draft.refuse("datasets", "is a list of mappings, each with path", raw.origin)
        return
    draft.give("datasets", replace(raw, value=_sources(draft, "datasets", raw, raw.value)), "data_path")


def _translate_mixture(draft: Draft, raw: RawValue, *, evaluates: bool) -> None:
    listed = raw.value.get("datasets") if isinstance(raw.value, Mapping) else None
    if not isinstance(listed, list) or not all(isinstance(entry, Mapping) for entry in listed):
        draft.refuse("dataset_mixture", "is a mapping whose datasets is a list of mappings with id", raw.origin)
        return
    for name, entry in raw.entries().items():
        key = f"dataset_mixture.{name}"
        if name == "datasets":
            draft.give(key, replace(entry, value=_sources(draft, key, entry, listed)), "data_path")
        elif name == "seed":
            draft.ignore(key, entry, "seed decides every choice of rows")
        elif name == "test_split_size":
            _translate_test_size(draft, key, entry, evaluates=evaluates)
        else:
            draft.refuse(key, "there is no such key. Keys are datasets, seed, test_split_size", entry.origin)


def _translate_mixer(draft: Draft, values: Values, *, evaluates: bool) -> None:
    """One list of splits for every data set: train in its name means training, test means held out."""
    raw = values["dataset_mixer"]
    splits = _words(values.get("dataset_splits"), ["train", "test"])
    subsets = _words(values.get("dataset_configs"), [])
    if not isinstance(raw.value, Mapping) or (subsets and len(subsets) != len(raw.value)):
        draft.refuse(
            "dataset_mixer", "is a mapping of data sets to shares; dataset_configs has one for each", raw.origin
        )
        return
    sources = [{"path": path, "weight": share} for path, share in raw.value.items()]
    for source, subset in zip(sources, subsets, strict=False):
        source["subset"] = subset
    train = [source | {"split": split} for source in sources for split in splits if "train" in split]
    draft.give("dataset_mixer", replace(raw, value=train), "data_path")
    held_out = [_whole(source) | {"split": split} for source in sources for split in splits if "test" in split]
    if evaluates and held_out:
        draft.default("eval_data_path", held_out, "the splits with test in their name, whole")
    for key in ("dataset_splits", "dataset_configs"):
        if key in values:
            draft.join(key, values[key], "data_path")


def _whole(source: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key != "weight"}


def _translate_test_size(draft: Draft, key: str, raw: RawValue | None, *, evaluates: bool) -> None:
    if raw is None:
        return
    if raw.value in (None, ""):
        draft.ignore(key, raw, EMPTY)
    elif evaluates:
        draft.give(key, raw, "validation_size")
    else:
        draft.ignore(key, raw, "eval_strategy is no: every row is trained on")


def _sources(draft: Draft, key: str, raw: RawValue, listed: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Entries of data_path; what cannot be said by one is refused under its own key."""
    return [
        source
        for number, entry in enumerate(listed, 1)
        for source in _one_source(draft, f"{key}[{number}]", raw.origin, entry)
    ]


def _one_source(draft: Draft, place: str, origin: str, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    source: dict[str, Any] = {}
    for key, value in entry.items():
        if value is None or key in ("data_files", "data_dir"):
            continue
        if key in ENTRY:
            source[ENTRY[key]] = value
        elif key == "columns":
            if isinstance(value, list) and CHAT_COLUMN in value:
                source["format_type"] = CHAT_COLUMN
        elif key == "fraction":
            draft.refuse(
                f"{place}.fraction",
                "shares of a mixture follow from the sizes of its data sets, which are not known yet. Write weight: "
                "0.5 takes a random half of this one, 2 takes it twice",
                origin,
            )
        else:
            draft.refuse(f"{place}.{key}", f"there is no such key. Keys are {', '.join(ENTRY)}, columns", origin)
    return _with_files(draft, place, origin, source, entry)


def _with_files(
    draft: Draft, place: str, origin: str, source: dict[str, Any], entry: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The sources that ``data_files`` and ``data_dir`` choose: files by their own path, folders of local data."""
    files, folder = entry.get("data_files"), entry.get("data_dir")
    path = str(source.get("path", ""))
    if files is None and folder is None:
        return [source]
    if files is None and os.path.isdir(path):
        return [source | {"path": os.path.join(path, str(folder))}]
    names = [files] if isinstance(files, str) else files
    if isinstance(names, list) and (path in FILE_KINDS or os.path.isdir(path)):
        below = [part for part in (path if path not in FILE_KINDS else "", folder) if part]
        return [source | {"path": os.path.join(*below, str(name))} for name in names]
    draft.refuse(
        f"{place}.{'data_files' if files is not None else 'data_dir'}",
        "files of a hub data set cannot be chosen. Download them, and name each as a path of its own",
        origin,
    )
    return []


def _words(raw: RawValue | None, otherwise: list[str]) -> list[str]:
    if raw is None or raw.value is None:
        return otherwise
    return [str(word) for word in raw.value] if isinstance(raw.value, list) else [str(raw.value)]
