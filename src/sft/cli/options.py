"""The command line of verbs that take a configuration: `[FILE] [--key value ...]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from sft.config import SFTConfig, load_config, parse_cli, read_file
from sft.config.argv import take_apart
from sft.config.renamed import apply_renames
from sft.config.values import RawValue
from sft.dialects import DIALECTS, Note, Translation, recognise, translate
from sft.dialects.translation import UNSPOKEN
from sft.errors import ConfigError


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a verb take a configuration: the words that are no flags of its own become ``args.config_words``."""
    parser.usage = f"{parser.prog} [FILE] [--key value ...]"
    parser.set_defaults(config_words=[])
    parser.add_argument(
        "--dialect",
        choices=list(DIALECTS),
        metavar="NAME",
        help=f"whose words FILE, or without one the command line, is written in: {', '.join(DIALECTS)}; unset: found "
        "out from FILE",
    )


def config_from(args: argparse.Namespace) -> SFTConfig:
    """The configuration that a verb's words describe. A file of another tool is translated first.

    Raises:
        ConfigError: every problem of the file and the words, in one message.
    """
    return config_from_words(args.config_words, args.dialect)


def config_from_words(words: Sequence[str], dialect: str | None = None) -> SFTConfig:
    """``[FILE] [--key value ...]`` as a configuration; in the words of ``dialect``, or of the one the file shows."""
    translation, rest = read_translation(words, dialect)
    return load_config(None, rest) if translation is None else load_translated(translation, rest)


def read_translation(words: Sequence[str], dialect: str | None = None) -> tuple[Translation | None, Sequence[str]]:
    """What of the words is foreign, translated, and the words that come over it; None where all of them are ours."""
    lists = () if dialect is None else getattr(DIALECTS[dialect], "LISTS", ())
    parsed = take_apart(words, lists)
    if parsed.file is None:
        if dialect is None:
            return None, words
        return translate(parse_cli(words, lists)[1], dialect), []
    values = read_file(parsed.file)
    dialect = dialect or recognise(values)
    if dialect is None:
        return None, words
    if getattr(DIALECTS[dialect], "TAKES_PAIRS", False):
        values |= read_pairs([words[place] for place in parsed.pairs])
        words = [word for place, word in enumerate(words) if place not in parsed.pairs]
    return translate(values, dialect, apply_renames(parsed.overrides).values), words


def read_pairs(words: Sequence[str]) -> dict[str, RawValue]:
    """``lora_rank=16``: a key of a file, its value written as YAML writes it.

    Raises:
        ConfigError: a word without an equals sign.
    """
    import yaml  # PyYAML is loaded where YAML is read, and for nothing else

    found = {}
    for word in words:
        name, is_pair, text = word.partition("=")
        if not is_pair:
            raise ConfigError(f"unexpected word {word!r}. Keys that replace those of the file are written key=value.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        found[name] = RawValue(value, word)
    return found


def load_translated(translation: Translation, words: Sequence[str]) -> SFTConfig:
    """A translation as a configuration. Refused keys are reported together with what is wrong with the rest."""
    opening = f"read as {translation.dialect}; `sft translate` explains every key"
    told = [opening, *filter(None, map(_spoken, translation.notes))]
    try:
        config = load_config(None, words, base=translation.values, notes=told, defaults=translation.defaults)
    except ConfigError as error:
        raise ConfigError([*translation.problems(), *error.problems]) from None
    translation.accepted()
    return config


def _spoken(note: Note) -> str:
    """A line for what the user might not expect; empty for keys that mean what they say."""
    if note.status == "ignored" and note.reason in UNSPOKEN:
        return ""
    if note.status == "ignored":
        return f"{note.place} is not used: {note.reason}"
    if note.status in ("renamed", "defaulted", "kept") and note.reason:
        return f"{note.place}: {note.reason}"
    return ""
