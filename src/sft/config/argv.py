"""The command line: words to raw values. ``[FILE] --key value --key=value --flag --list a b``."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sft.config.catalog import OPTIONS
from sft.config.declared import Declared
from sft.config.files import SUFFIXES
from sft.config.secrets import refuse_secrets
from sft.config.training_arguments import installed_fields
from sft.config.values import FALSE_WORDS, TRUE_WORDS, RawValue
from sft.errors import ConfigError

LIST = Declared(frozenset({"list"}), item="str")
FLAG = re.compile(r"--([A-Za-z][\w-]*)(=(.*))?", re.DOTALL)


@dataclass(slots=True)
class Words:
    """A command line, taken apart."""

    file: Path | None = None
    overrides: dict[str, RawValue] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)
    """Places of words such as key=value, which are a problem unless the file's dialect takes them."""


def parse_cli(argv: Sequence[str], lists: Collection[str] = ()) -> tuple[Path | None, dict[str, RawValue]]:
    """The configuration file, if one is named, and the options.

    Args:
        lists: names, not ours, that take several words.

    Raises:
        ConfigError: words that are neither, options given twice, options without their value.
    """
    words = take_apart(argv, lists)
    if words.problems:
        raise ConfigError(words.problems)
    return words.file, words.overrides


def take_apart(argv: Sequence[str], lists: Collection[str] = ()) -> Words:
    """Like parse_cli, with the problems handed back, to be reported beside those of the values."""
    words = Words()
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        flag = FLAG.fullmatch(word)
        if flag is None:
            if "=" in word and not word.startswith("-"):
                words.pairs.append(len(argv) - len(rest) - 1)
            _take_file(word, words)
            continue
        name = flag[1].replace("-", "_")
        given = [flag[3]] if flag[2] else _values_after(name, rest, lists)
        _take_option(name, f"--{flag[1]}", given, words)
    refuse_secrets(words.overrides)
    return words


def _take_file(word: str, words: Words) -> None:
    if words.file is None and not word.startswith("-") and "=" not in word:
        words.file = Path(word)
    elif "=" in word and not word.startswith("-"):
        words.problems.append(f"unexpected word {word!r}. Options are written --{word.replace('=', ' ', 1)}.")
    elif word.startswith("-"):
        words.problems.append(f"unexpected word {word!r}. Options are written with two dashes: --name value.")
    else:
        words.problems.append(
            f"unexpected word {word!r}: the configuration file is {words.file} already, and every other value "
            "follows its option (--name value). Quote values that hold spaces."
        )


def _values_after(name: str, rest: list[str], lists: Collection[str]) -> list[str]:
    """Take the words that belong to an option off the front of the rest."""
    declared = LIST if name in lists else _declared(name)
    taken: list[str] = []
    while rest and not FLAG.fullmatch(rest[0]) and _belongs(rest[0], taken, declared):
        taken.append(rest.pop(0))
    return taken


def _belongs(word: str, taken: list[str], declared: Declared) -> bool:
    if "list" in declared.kinds:
        return True
    if declared.kinds == {"bool"}:
        is_truth = word.lower() in (*TRUE_WORDS, *FALSE_WORDS) or (declared.optional and word.lower() == "none")
        return not taken and (is_truth or not word.endswith(SUFFIXES))
    return not taken


def _declared(name: str) -> Declared:
    """The option's type; one word is taken for names that are unknown, which are reported later."""
    if name in OPTIONS:
        return OPTIONS[name].declared
    return installed_fields().get(name, Declared(frozenset({"str", "bool"})))


def _take_option(name: str, flag: str, given: list[str], words: Words) -> None:
    if name in words.overrides:
        first = words.overrides[name]
        words.problems.append(
            f"{flag} is given twice: {_spoken(first.value)} and {_spoken(given)}. Keep one"
            + ("; several values follow one flag." if "list" in _declared(name).kinds else ".")
        )
        return
    if not given and "bool" not in _declared(name).kinds:
        words.problems.append(f"{flag} needs a value after it.")
        return
    words.overrides[name] = RawValue(_value(given), flag)


def _value(given: list[str]) -> str | bool | list[str]:
    """True for a bare flag, the word, or the list of words."""
    if not given:
        return True
    return given[0] if len(given) == 1 else given


def _spoken(value: object) -> str:
    parts = [str(part) for part in value] if isinstance(value, list) else [str(value)]
    return " ".join(parts) or "True"
