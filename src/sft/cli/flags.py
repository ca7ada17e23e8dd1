"""Every verb with its flags and their values, as the commands themselves declare them."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sft.config.catalog import OPTIONS, Entry

BOTH = ("true", "false")
LONGEST_HELP = 78


@dataclass(frozen=True, slots=True)
class Flag:
    """One word that begins with two dashes."""

    name: str
    help: str
    """One short line."""
    values: tuple[str, ...] = ()
    """All that can follow; empty where that is not a matter of a list."""
    takes_value: bool = True


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb of the command."""

    name: str
    help: str
    flags: tuple[Flag, ...]
    """Its own; beside them stand those of the configuration, where it takes one."""
    takes_config: bool
    words: tuple[str, ...] = ()
    """What can stand there without a flag, where that is a matter of a list."""


def read_verbs(modules: Mapping[str, tuple[str, str]]) -> list[Verb]:
    """All verbs.

    Args:
        modules: verb -> module and help, as ``main`` has them.
    """
    return [_read_verb(name, module, help) for name, (module, help) in modules.items()]


def config_flags() -> list[Flag]:
    """The options of the configuration."""
    return [Flag(f"--{entry.name}", shortened(entry.option.help), _values(entry)) for entry in OPTIONS.values()]


def shortened(help: str) -> str:
    """The first sentence, on one line."""
    line = " ".join(help.split()).split(". ")[0].removesuffix(".")
    return line if len(line) <= LONGEST_HELP else f"{line[: LONGEST_HELP - 3].rstrip()}..."


def _read_verb(name: str, module: str, help: str) -> Verb:
    parser = argparse.ArgumentParser(prog=f"sft {name}", add_help=False)
    importlib.import_module(module).configure(parser)
    actions = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    return Verb(
        name=name,
        help=help,
        flags=tuple(flag for action in actions for flag in _flags(action)),
        takes_config=parser.get_default("config_words") is not None,
        words=tuple(str(word) for action in actions if not action.option_strings for word in action.choices or ()),
    )


def _flags(action: argparse.Action) -> Iterator[Flag]:
    values = tuple(str(choice) for choice in action.choices or ())
    for name in action.option_strings:
        if name.startswith("--"):
            yield Flag(name, shortened(action.help or ""), values, takes_value=action.nargs != 0)


def _values(entry: Entry) -> tuple[str, ...]:
    if entry.option.choices is not None:
        return entry.option.choices
    return BOTH if entry.declared.kinds == {"bool"} else ()
