"""`sft translate FILE`: a configuration of another tool explained, key by key, and written in our words.

What it prints is itself a configuration: the explanation stands in comments above it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from sft.cli.options import add_config_arguments, load_translated, read_translation
from sft.config import SFTConfig, parse_cli, read_file
from sft.config.values import shown
from sft.dialects import Note, Translation
from sft.dialects.translation import Draft
from sft.errors import ConfigError
from sft.terminal.plain import as_json, plain_line
from sft.terminal.screen import takes_colour

HELP = "explain a configuration of another tool in our words"

OWN = "sft"
COLOURS = {"kept": "32", "renamed": "36", "defaulted": "33", "ignored": "90", "refused": "31"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    add_config_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print dialect, config and notes as one object")


def run(args: argparse.Namespace) -> int:
    """Print a note for each key, then the configuration.

    Raises:
        ConfigError: after the notes, if a key is refused or a value cannot be used.
    """
    translation, words = read_translation(args.config_words, args.dialect)
    if translation is None:
        translation = _own(words)
    problem: ConfigError | None = None
    config: dict[str, Any] | None = None
    try:
        config = given_values(load_translated(translation, words))
    except ConfigError as error:
        problem = error
    if args.json:
        notes = [dataclasses.asdict(note) for note in translation.notes]
        print(as_json({"dialect": translation.dialect, "config": config, "notes": notes}))
    else:
        print(as_comments(translation, coloured=_colours_wanted()))
        if config is not None:
            print(as_yaml(config), end="")
    if problem is not None:
        raise problem
    return 0


def given_values(config: SFTConfig) -> dict[str, Any]:
    """What the file, the command line and the dialect say; defaults of ours are left out."""
    return {name: value for name, value in config.to_dict().items() if config.origins.get(name) != "default"}


def as_comments(translation: Translation, *, coloured: bool) -> str:
    """One line a key: status, key, our option where it has another name, reason."""
    rows = [(note, plain_line(_key(note)), plain_line(_reason(note, translation))) for note in translation.notes]
    width = max((len(key) for _, key, _ in rows), default=0)
    lines = [f"# {_status(note, coloured)}  {key:<{width}}  {reason}".rstrip() for note, key, reason in rows]
    return "\n".join([f"# dialect: {translation.dialect}", *lines, ""])


def as_yaml(config: dict[str, Any]) -> str:
    """A file that `sft train` takes. Values are written as JSON, which YAML can read as nothing else."""
    return "".join(f"{name}: {as_json(value)}\n" for name, value in config.items())


def _key(note: Note) -> str:
    return f"{note.key} -> {note.target}" if note.status == "renamed" else note.key


def _reason(note: Note, translation: Translation) -> str:
    """What the note says; of a default that needs no reason, its value."""
    if note.status == "defaulted" and not note.reason and note.target in translation.values:
        return shown(translation.values[note.target].value)
    return note.reason


def _status(note: Note, coloured: bool) -> str:
    padded = f"{note.status:<{max(map(len, COLOURS))}}"
    return f"\x1b[{COLOURS[note.status]}m{padded}\x1b[0m" if coloured else padded


def _colours_wanted() -> bool:
    return takes_colour(sys.stdout)


def _own(words: Sequence[str]) -> Translation:
    """A file of ours, treated as a dialect in which every key is kept."""
    file, overrides = parse_cli(words)
    if file is None and not overrides:
        raise ConfigError("sft translate needs a configuration file: sft translate FILE.")
    draft = Draft(OWN)
    for key, raw in (read_file(file) if file is not None else {}).items():
        draft.take(key, raw, {})
    return draft.finish()
