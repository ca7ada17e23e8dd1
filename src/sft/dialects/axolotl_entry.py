"""One entry of axolotl's ``datasets``: what is read, and what it asks of template and mask, which are one for all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sft.config.values import RawValue
from sft.dialects.axolotl_format import Unwritable, template_of
from sft.dialects.translation import EMPTY, Draft

FILE_KINDS = ("json", "csv", "parquet")

REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")

ALPACA_TEMPLATES = {
    "alpaca": "axolotl_alpaca",
    "alpaca:instruct": "axolotl_alpaca",
    "alpaca:chat": "axolotl_alpaca_chat",
    "alpaca:phi": "axolotl_alpaca_phi",
    "jeopardy": "axolotl_alpaca",
}
"""Types that are questions and answers in columns, and the text of each."""

JEOPARDY = {
    "format_type": "custom",
    "columns": {"prompt": "question", "input": "category", "response": "answer"},
    "response_prefix": "what is ",
}
"""How axolotl reads rows of the game show: the category is the input, and answers are put as questions."""

ALPACA_SEPARATOR = "\n\n### Input:\n"

PLAIN_KEYS = {"name": "subset", "split": "split", "revision": "revision"}

KNOWN_KEYS = {
    "preprocess_shards": "data is prepared once, before training, and kept",
    "ds_type": "the ending of the file says it",
    "template_thinking_key": "thoughts reach the template under the names that templates use",
    "split_thinking": "templates that know thoughts find them in the text",
    "input_format": "the rows show it",
    "conversation": "it belongs to the old sharegpt type",
}

USER_FIELDS = {
    "field_instruction": "prompt",
    "field_input": "input",
    "field_output": "response",
    "field_system": "system",
}

USER_USUAL = {
    "field_instruction": "instruction",
    "field_input": "input",
    "field_output": "output",
    "field_system": "system",
}

SETTLED_KEYS = (
    "path", "type", "field", "data_files", "chat_template", "chat_template_jinja", "field_messages", "field_tools",
    "message_property_mappings", "message_field_role", "message_field_content", "roles", "field_thinking",
    "roles_to_train", "train_on_eos", "train_on_eot", "message_field_training", "shards", "shards_idx",
    "drop_system_message",
)  # fmt: skip


@dataclass
class DataSets:
    """What the entries of a list come to, while it is read."""

    kinds: set[str] = field(default_factory=set)
    """Templates of ALPACA_TEMPLATES, chat_template, completion, tokens, or a template of the user's as text."""

    masks: set[str] = field(default_factory=set)
    separators: set[str] = field(default_factory=set)
    systems: set[str] = field(default_factory=set)
    templates: dict[str, RawValue] = field(default_factory=dict)
    """Templates that entries name for themselves."""


def translate_entry(
    draft: Draft, place: str, origin: str, entry: Mapping[str, Any], found: DataSets
) -> list[dict[str, Any]]:
    """One data set; every key of it that does not simply go into data_path gets a note of its own."""
    source: dict[str, Any] = {"path": entry.get("path")}
    for name, value in entry.items():
        key = f"{place}.{name}"
        if name in PLAIN_KEYS and value is not None:
            source[PLAIN_KEYS[name]] = value
        elif name in KNOWN_KEYS and value is not None:
            draft.ignore(key, RawValue(value, origin), KNOWN_KEYS[name])
    _read_kind(draft, place, origin, entry, source, found)
    _read_turn_keys(draft, place, origin, entry, source)
    _read_entry_mask(draft, place, origin, entry, found)
    _read_share(draft, place, origin, entry, source)
    if entry.get("drop_system_message"):
        source["drop_system"] = True
    _refuse_unknown(draft, place, origin, entry)
    sources = list(_with_files(draft, place, origin, entry, source))
    _note_what_is_used(draft, place, origin, entry)
    return sources


def _read_kind(
    draft: Draft, place: str, origin: str, entry: Mapping[str, Any], source: dict[str, Any], found: DataSets
) -> None:
    kind = entry.get("type")
    if isinstance(kind, Mapping):
        _read_user_type(draft, place, origin, kind, source, found)
    elif isinstance(kind, str) and kind in ALPACA_TEMPLATES:
        source |= JEOPARDY if kind == "jeopardy" else {"format_type": "alpaca"}
        found.kinds.add(ALPACA_TEMPLATES[kind])
        found.separators.add(ALPACA_SEPARATOR)
    elif kind == "chat_template":
        source["format_type"] = "messages"
        found.kinds.add("chat_template")
    elif kind == "completion":
        source |= {"format_type": "text", "columns": {"text": entry.get("field") or "text"}}
        found.kinds.add("completion")
    elif kind is None or kind == "":
        source["format_type"] = "tokens"
        found.kinds.add("tokens")
        draft.join(
            f"{place}.type", RawValue(kind, origin), "data_path", "without a type: input_ids and labels as they are"
        )
    else:
        draft.refuse(
            f"{place}.type",
            f"{kind!r} is not known. Known are {', '.join(ALPACA_TEMPLATES)}, chat_template, completion, a mapping "
            "with field_instruction, field_output and format, or nothing for rows of token ids",
            origin,
        )
    for name in ("chat_template", "chat_template_jinja"):
        if entry.get(name):
            found.templates[name] = RawValue(entry[name], origin)


def _read_user_type(
    draft: Draft, place: str, origin: str, kind: Mapping[str, Any], source: dict[str, Any], found: DataSets
) -> None:
    """A text with {instruction} and {input} in it becomes a template; fields become columns."""
    known = (*USER_FIELDS, "format", "no_input_format", "system_format", "system_prompt")
    for name in kind:
        if name not in known:
            draft.refuse(f"{place}.type.{name}", f"there is no such key. Keys are {', '.join(known)}", origin)
    given = {name: value for name, value in kind.items() if value is not None}
    source["format_type"] = "custom"
    source["columns"] = {USER_FIELDS[name]: given.get(name, usual) for name, usual in USER_USUAL.items()}
    try:
        template, separator = template_of(
            given.get("format", "{instruction} {input} "),
            given.get("no_input_format", "{instruction} "),
            given.get("system_format", "{system}"),
        )
    except Unwritable as reason:
        draft.refuse(f"{place}.type", str(reason), origin)
        return
    found.kinds.add(template)
    found.separators.add(separator)
    if given.get("system_prompt"):
        found.systems.add(str(given["system_prompt"]))


def _read_turn_keys(draft: Draft, place: str, origin: str, entry: Mapping[str, Any], source: dict[str, Any]) -> None:
    """Under which names messages, roles and texts stand."""
    columns = {
        ours: entry[name]
        for name, ours in (("field_messages", "messages"), ("field_tools", "tools"))
        if entry.get(name)
    }
    if columns:
        source["columns"] = columns
    mapping = _mapping(draft, f"{place}.message_property_mappings", origin, entry.get("message_property_mappings"))
    for old, name in (("message_field_role", "role"), ("message_field_content", "content")):
        if entry.get(old):
            mapping[name] = entry[old]
    for name, theirs in mapping.items():
        if name in ("role", "content"):
            if name != theirs:
                source[f"{name}_key"] = theirs
        elif name != theirs:
            draft.refuse(
                f"{place}.message_property_mappings.{name}",
                f"{name} is read under its own name. Rename {theirs!r} in the file",
                origin,
            )
    roles = _mapping(draft, f"{place}.roles", origin, entry.get("roles"))
    if roles:
        source["role_names"] = {str(word): role for role, words in roles.items() for word in _listed(words)}
    thinking = entry.get("field_thinking")
    if thinking and thinking not in REASONING_KEYS:
        draft.refuse(
            f"{place}.field_thinking",
            f"thoughts are read under {', '.join(REASONING_KEYS)}. Rename {thinking!r}",
            origin,
        )


def _read_entry_mask(draft: Draft, place: str, origin: str, entry: Mapping[str, Any], found: DataSets) -> None:
    """Which turns of a chat are trained. Both keys there and empty is the old way to say: the last answer only."""
    roles = entry.get("roles_to_train", ["assistant"])
    ends = entry.get("train_on_eos", "turn")
    if entry.get("type") == "chat_template":
        found.masks.add("last_answer" if not roles and not ends else "answers")
    if roles and any(role not in ("assistant", "gpt") for role in _listed(roles)):
        draft.refuse(
            f"{place}.roles_to_train",
            f"{roles!r}: answers are trained, or everything (train_on_inputs: true). Write [assistant], or mark turns "
            "in the data with train: true",
            origin,
        )
    for name, value in (("train_on_eos", ends), ("train_on_eot", entry.get("train_on_eot"))):
        if value not in (None, "turn"):
            draft.refuse(
                f"{place}.{name}",
                f"{value!r}: the token that ends a trained turn is trained, and no other. Write turn",
                origin,
            )
    field_of_turns = entry.get("message_field_training")
    if field_of_turns not in (None, "train", "loss"):
        draft.refuse(
            f"{place}.message_field_training",
            f"is read under train or loss. Rename {field_of_turns!r} in the file",
            origin,
        )


def _read_share(draft: Draft, place: str, origin: str, entry: Mapping[str, Any], source: dict[str, Any]) -> None:
    shards = entry.get("shards")
    if shards and not (isinstance(shards, int) and shards > 0):
        draft.refuse(f"{place}.shards", f"{shards!r} is no number of parts", origin)
    elif shards:
        source["weight"] = 1 / shards
        draft.join(f"{place}.shards", RawValue(shards, origin), "data_path", f"a random 1/{shards} of the rows")


def _refuse_unknown(draft: Draft, place: str, origin: str, entry: Mapping[str, Any]) -> None:
    reasons = {
        "message_field_training_detail": "turns are trained whole. Mark turns with train",
        "input_transform": "rows are read as they are",
        "trust_remote_code": "code of data sets is never run. Use the Parquet files of the data set",
    }
    for name, value in entry.items():
        if name in (*SETTLED_KEYS, *PLAIN_KEYS, *KNOWN_KEYS) or value in (None, False, ""):
            continue
        reason = reasons.get(name, "there is no such key for a data set; take it out")
        draft.refuse(f"{place}.{name}", reason, origin)


def _note_what_is_used(draft: Draft, place: str, origin: str, entry: Mapping[str, Any]) -> None:
    """A line for each key that went into the source, or that is empty."""
    noted = {note.key for note in draft.notes}
    for name, value in entry.items():
        key = f"{place}.{name}"
        if any(one == key or one.startswith(f"{key}.") for one in noted):
            continue
        if value in (None, False, "", []):
            draft.ignore(key, RawValue(value, origin), EMPTY)
        else:
            draft.join(key, RawValue(value, origin), "data_path")


def _with_files(
    draft: Draft, place: str, origin: str, entry: Mapping[str, Any], source: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The source, or one for each of ``data_files``: files by their own path, or below a local folder."""
    path, files = str(entry.get("path") or ""), _listed(entry.get("data_files"))
    if not path:
        draft.refuse(f"{place}.path", "is missing; name a file, a folder or a hub data set", origin)
    elif not files:
        yield source
    elif path in FILE_KINDS or os.path.isdir(path):
        for name in files:
            yield source | {"path": str(name) if path in FILE_KINDS else os.path.join(path, str(name))}
    else:
        yield source | {"data_files": [str(name) for name in files]}


def _mapping(draft: Draft, key: str, origin: str, value: Any) -> dict[str, Any]:
    if value in (None, "") or isinstance(value, Mapping):
        return dict(value or {})
    draft.refuse(key, f"is a mapping, not {value!r}", origin)
    return {}


def _listed(value: Any) -> list[Any]:
    if value in (None, ""):
        return []
    return value if isinstance(value, list) else [value]
