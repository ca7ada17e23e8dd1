"""The command line of verbs that take a configuration: `[FILE] [--key value ...]`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from sft.config import RawValue, SFTConfig, load_config, read_file
from sft.config.argv import take_apart
from sft.config.renamed import apply_renames
from sft.dialects import Note, Translation, recognise, translate
from sft.errors import ConfigError


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a verb take a configuration: the words that are no flags of its own become ``args.config_words``."""
    parser.usage = f"{parser.prog} [FILE] [--key value ...]"
    parser.set_defaults(config_words=[])


def config_from(args: argparse.Namespace) -> SFTConfig:
    """The configuration that a verb's words describe. A file of another tool is translated first.

    Raises:
        ConfigError: every problem of the file and the words, in one message.
    """
    return config_from_words(args.config_words)


def config_from_words(words: Sequence[str]) -> SFTConfig:
    """``[FILE] [--key value ...]`` as a configuration."""
    parsed = take_apart(words)
    if parsed.file is None or parsed.problems:
        return load_config(None, words)
    values = read_file(parsed.file)
    dialect = recognise(values)
    if dialect is None:
        return load_config(None, words, base=values)
    translation = translate(values, dialect, apply_renames(parsed.overrides).values)
    return _load_translated(translation, words, [f"{parsed.file} is read as {dialect}; `sft translate` explains it"])


def _load_translated(translation: Translation, words: Sequence[str], notes: list[str]) -> SFTConfig:
    """Refused keys are reported together with what is wrong with the rest."""
    told = [*notes, *filter(None, map(_spoken, translation.notes))]
    base: Mapping[str, RawValue] = translation.values
    try:
        config = load_config(None, words, base=base, notes=told)
    except ConfigError as error:
        raise ConfigError([*translation.problems(), *error.problems]) from None
    translation.accepted()
    return config


def _spoken(note: Note) -> str:
    """A line for what the user might not expect; empty for keys that mean what they say."""
    place = f"{note.key} ({note.origin})" if note.origin else note.key
    if note.status == "ignored":
        return f"{place} is not used: {note.reason}"
    if note.status in ("renamed", "defaulted", "kept") and note.reason:
        return f"{place}: {note.reason}"
    return ""
