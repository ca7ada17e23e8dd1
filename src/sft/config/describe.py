"""Help text, reference page and JSON Schema of all options, made from the fields themselves."""

from __future__ import annotations

import inspect
import json
import shutil
import textwrap
from typing import Any

from sft.config.catalog import OPTIONS, SECTIONS, Entry
from sft.config.decided import BOUNDED, DECIDED, IGNORED, REFUSED
from sft.config.declared import Declared
from sft.config.option import Option
from sft.config.renamed import RENAMED
from sft.config.resolve import bounds_text
from sft.config.training_arguments import installed_fields, installed_help

JSON_TYPES = {
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "str": "string",
    "list": "array",
    "dict": "object",
}
REST = (
    "Every other field of transformers.TrainingArguments is an option under its own name, such as "
    "--adam_beta2 0.95 or --torch_compile. `sft schema` lists them all."
)


def help_text(width: int | None = None) -> str:
    """Every option with its meaning and default, by section, for a terminal."""
    columns = width if width is not None else min(shutil.get_terminal_size().columns, 110)
    parts = [_opening(columns)]
    for section in SECTIONS:
        parts.append(f"{section} options:")
        parts.extend(_help_of(entry, columns) for entry in OPTIONS.values() if entry.section == section)
        parts.append("")
    return "\n".join([*parts, *textwrap.wrap(REST, columns)])


def _opening(columns: int) -> str:
    text = (
        "FILE is a configuration in YAML, JSON or TOML, ours or one of a tool that sft knows (`sft translate`). Each "
        "option may stand in it by its name, and on the command line, which wins."
    )
    return "\n".join([*textwrap.wrap(text, columns), ""])


def _help_of(entry: Entry, columns: int) -> str:
    head = f"  --{entry.name} {_metavar(entry)}  [{_default_text(entry)}]"
    body = textwrap.wrap(_meaning(entry), columns - 6, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join([head, *body])


def _metavar(entry: Entry) -> str:
    kinds = entry.declared.kinds
    if entry.option.choices is not None:
        return "{" + ",".join(entry.option.choices) + "}"
    if kinds == {"bool"}:
        return "[BOOL]"
    if "list" in kinds:
        return "WORD [WORD ...]"
    return {"int": "INT", "float": "NUMBER", "dict": "JSON"}.get(next(iter(kinds)), "TEXT")


def _default_text(entry: Entry) -> str:
    return "unset" if entry.default is None else json.dumps(entry.default).strip('"')


def _meaning(entry: Entry) -> str:
    bounds = bounds_text(entry.option)
    bounds = bounds.removeprefix("of ")
    return f"{entry.option.help} ({bounds[:1].upper()}{bounds[1:]}.)" if bounds else entry.option.help


def reference() -> str:
    """docs/options.md: every option in a table, by section."""
    lines = [
        "# Options",
        "",
        "Made from the fields by `sft schema --markdown > docs/options.md`. Each option has the same name in a "
        "configuration file, on the command line (`--name value`) and in Python (`SFTConfig(name=value)`).",
        "",
        "Every other field of `transformers.TrainingArguments` is taken under its own name and checked against the "
        "installed version, but for those at the end.",
    ]
    for section, owner in SECTIONS.items():
        lines += ["", f"## {section.capitalize()}", "", inspect.getdoc(owner) or "", ""]
        lines += ["| option | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(entry) for entry in OPTIONS.values() if entry.section == section]
    return "\n".join([*lines, *_decided_lines(), *_renamed_lines(), ""])


def _row(entry: Entry) -> str:
    kind = ", ".join(entry.option.choices) if entry.option.choices is not None else entry.declared.wanted()
    cells = [f"`{entry.name}`", kind, f"`{_default_text(entry)}`", _meaning(entry)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _decided_lines() -> list[str]:
    lines = ["", "## Fields of TrainingArguments that sft decides", ""]
    lines += ["Refused with this reason, except for a value that asks for what is done anyway.", ""]
    lines += [f"- `{name}`: {why}." for name, (_, why) in DECIDED.items()]
    lines += [f"- `{name}`: {why}." for name, why in REFUSED.items()]
    return lines


def _renamed_lines() -> list[str]:
    lines = ["", "## Old names", "", "Understood, and translated with a note.", ""]
    for name, rename in RENAMED.items():
        lines.append(f"- `{name}`: {f'now `{rename.new}`' if rename.new else f'not needed; {rename.note}'}.")
    return lines


def json_schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) of a configuration file, for editors."""
    passed = {
        name: _property(declared, BOUNDED.get(name, Option(help="")), installed_help()[name])
        for name, declared in installed_fields().items()
        if name not in OPTIONS and name not in REFUSED and name not in IGNORED and name not in DECIDED
    }
    own = {name: _own_property(entry) for name, entry in OPTIONS.items()}
    old = {
        name: {"deprecated": True, "description": f"Now {rename.new}." if rename.new else rename.note}
        for name, rename in RENAMED.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sft-kit configuration",
        "type": "object",
        "properties": own | old | passed,
        "additionalProperties": False,
    }


def _own_property(entry: Entry) -> dict[str, Any]:
    return _property(entry.declared, entry.option, entry.option.help) | {"default": entry.default}


def _property(declared: Declared, option: Option, description: str) -> dict[str, Any]:
    """One option. null is always allowed by name alone: a key without a value counts as left out."""
    kinds = [JSON_TYPES[kind] for kind in JSON_TYPES if kind in declared.kinds]
    schema: dict[str, Any] = {"description": description, "type": [*kinds, "null"]}
    choices = option.choices or declared.choices
    if choices is not None:
        schema["enum"] = [*choices, None]
    if declared.item == "str":
        schema |= {"items": {"type": "string"}} if "list" in declared.kinds else {}
        schema |= {"additionalProperties": {"type": "string"}} if "dict" in declared.kinds else {}
    if declared.item == "int":
        schema["items"] = {"type": "integer"}
    bounds = {"minimum": option.minimum, "exclusiveMinimum": option.above, "maximum": option.maximum}
    return schema | {keyword: bound for keyword, bound in bounds.items() if bound is not None}
