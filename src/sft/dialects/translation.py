"""What a dialect gives back: our values, and one note for every key it met or decided for the user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sft.config.catalog import OPTIONS
from sft.config.renamed import RENAMED
from sft.config.suggestions import nearest, suggest
from sft.config.training_arguments import installed_fields
from sft.config.values import FALSE_WORDS, TRUE_WORDS, RawValue, shown
from sft.errors import ConfigError

Values = Mapping[str, RawValue]
"""Keys and values of a foreign configuration, or of our options over it."""

Status = Literal["kept", "renamed", "defaulted", "ignored", "refused"]
EMPTY = "empty: as if it were not there"
OFF = "it asks for nothing"
CAUSAL_ONLY = "causal language models are the only kind trained here"
UNSPOKEN = (EMPTY, OFF, CAUSAL_ONLY)
"""Reasons for ignoring a key that surprise nobody: ``sft translate`` shows them, a run does not."""

STATUSES: tuple[Status, ...] = ("kept", "renamed", "defaulted", "ignored", "refused")


@dataclass(frozen=True, slots=True)
class Note:
    """What became of one foreign key."""

    key: str
    """The foreign key, dotted where it is nested (``training.epochs``); for a default, our own name."""

    status: Status
    target: str | None
    """Our option; None where nothing of the key is used."""

    reason: str
    """Empty where the meaning is the same and nothing need be said."""

    origin: str = ""
    """Where the key was written, such as ``train.yaml:12`` or ``--no_eval``; empty for a default."""

    @property
    def place(self) -> str:
        """'training.epochs (train.yaml:12)' or '--no_eval', for messages."""
        if self.origin.startswith("--"):
            return self.origin
        return f"{self.key} ({self.origin})" if self.origin else self.key


@dataclass(frozen=True, slots=True)
class Translation:
    """A foreign configuration in our words. Values are not checked yet: SFTConfig does that."""

    dialect: str
    values: dict[str, RawValue]
    notes: list[Note]
    defaults: dict[str, Any] = field(default_factory=dict)
    """What the foreign program takes unasked, given here or not; by our options."""

    def problems(self) -> list[str]:
        """One message for each refused key."""
        return [f"{note.place}: {note.reason}" for note in self.notes if note.status == "refused"]

    def accepted(self) -> dict[str, RawValue]:
        """The values.

        Raises:
            ConfigError: a key was refused; every such key is listed.
        """
        problems = self.problems()
        if problems:
            raise ConfigError(problems)
        return self.values


@dataclass(slots=True)
class Draft:
    """A translation while its dialect is at work. Each method settles one key; none is settled in silence."""

    dialect: str
    overrides: Mapping[str, RawValue] = field(default_factory=dict)
    """Our options on the command line after the file; they win, so nothing is defaulted that they give."""

    values: dict[str, RawValue] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    defaults: dict[str, Any] = field(default_factory=dict)

    def given(self, values: Values) -> dict[str, RawValue]:
        """The keys that have a value. Those that stand there without one are settled: other tools read past them."""
        for key, raw in values.items():
            if is_empty(raw):
                self.ignore(key, raw, EMPTY)
        return {key: raw for key, raw in values.items() if not is_empty(raw)}

    def take(self, key: str, raw: RawValue, names: Mapping[str, str]) -> None:
        """Settle a key by table: ``names`` maps foreign names to ours; names of ours are understood too."""
        name = key.rpartition(".")[2]
        if name in names:
            self.give(key, raw, names[name])
        elif name in OPTIONS or name in installed_fields():
            self.give(key, raw, name)
        elif name in RENAMED:
            self._take_old(key, raw, name)
        else:
            near = nearest(name, names)
            hint = f"Did you mean {near}?" if near else suggest(name)
            self.refuse(key, f"there is no such key. {hint}", raw.origin)

    def give(self, key: str, raw: RawValue, target: str, reason: str = "") -> None:
        """The key's value is that of our option ``target``."""
        if target in self.values:
            self.refuse(key, f"sets {target}, which {self.values[target].origin} sets already; keep one", raw.origin)
            return
        self.values[target] = self._named(key, raw, target)
        self.join(key, raw, target, reason)

    def join(self, key: str, raw: RawValue, target: str, reason: str = "") -> None:
        """The key's value is part of an option that another key has given already."""
        status: Status = "kept" if key.rpartition(".")[2] == target else "renamed"
        self.notes.append(Note(key, status, target, reason, raw.origin))

    def ignore(self, key: str, raw: RawValue, reason: str) -> None:
        """Nothing depends on the key; the reason says why leaving it out changes nothing."""
        self.notes.append(Note(key, "ignored", None, reason, raw.origin))

    def refuse_if_asked(self, key: str, raw: RawValue, reason: str) -> None:
        """A key that cannot be honoured, and that asks for nothing where it is off or empty."""
        if raw.value in ([], {}) or str(raw.value).lower() in FALSE_WORDS:
            self.ignore(key, raw, OFF)
        else:
            self.refuse(key, reason, raw.origin)

    def entries(self, key: str, raw: RawValue) -> dict[str, RawValue]:
        """What a nested key holds; refused, and nothing, where it is no mapping."""
        if isinstance(raw.value, Mapping):
            return raw.entries()
        self.refuse(key, f"is a mapping, not {raw.value!r}", raw.origin)
        return {}

    def refuse(self, key: str, reason: str, origin: str = "") -> None:
        """The key cannot be honoured; the reason says what to change."""
        self.notes.append(Note(key, "refused", None, reason, origin))

    def default(self, target: str, value: Any, reason: str = "") -> None:
        """What the foreign program does unasked; left alone where the user did say something."""
        self.defaults[target] = value
        given = {RENAMED[name].new if name in RENAMED else name for name in (*self.values, *self.overrides)}
        if target not in given:
            self.values[target] = RawValue(value, f"default of {self.dialect}")
            self.notes.append(Note(target, "defaulted", target, reason and f"{shown(value)}: {reason}"))

    def _take_old(self, key: str, raw: RawValue, name: str) -> None:
        """A name of older transformers: SFTConfig knows how its value is written now."""
        self.values[name] = self._named(key, raw, name)
        rename = RENAMED[name]
        if rename.new is None:
            self.ignore(key, raw, rename.note)
        else:
            self.notes.append(Note(key, "renamed", rename.new, "", raw.origin))

    def _named(self, key: str, raw: RawValue, target: str) -> RawValue:
        """The value with its foreign key beside its line, where the two names differ."""
        if raw.from_command_line or key == target:
            return raw
        return replace(raw, origin=f"{raw.origin} ({key})")

    def finish(self) -> Translation:
        return Translation(self.dialect, self.values, self.notes, self.defaults)


Settle = Callable[[Draft, str, RawValue], None]
"""A function that settles one key of a draft."""


def is_true(raw: RawValue | None) -> bool:
    """Whether a value is there and says yes, however it is written."""
    return raw is not None and str(raw.value).lower() in TRUE_WORDS


def is_empty(raw: RawValue) -> bool:
    """Whether a key stands there without a value, which other tools read as if it did not."""
    return raw.value is None or raw.value == ""
