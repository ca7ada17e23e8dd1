"""A configuration under inspection: what the rules of checks/ look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft.config.catalog import OPTIONS
from sft.config.values import RawValue, shown

DUMP_SHARE = 0.9
"""A configuration that gives this share of all options is somebody's to_dict(); it stresses nothing in particular."""


class Unusable(Exception):
    """A rule asked for an option whose own value is wrong already; the rule has nothing to say."""


class Candidate:
    """Checked values by attribute, with where each was written. Values that are wrong in themselves raise Unusable."""

    def __init__(self, values: Mapping[str, Any], given: Mapping[str, RawValue], wrong: frozenset[str]) -> None:
        self._values = values
        self._given = given
        self._wrong = wrong
        self._is_dump = len(OPTIONS.keys() & given.keys()) >= DUMP_SHARE * len(OPTIONS)

    def __getattr__(self, name: str) -> Any:
        if name in self._wrong:
            raise Unusable(name)
        return self._values.get(name)

    def is_given(self, name: str) -> bool:
        """Whether the user said it, as opposed to a default of ours or of a foreign dialect."""
        if name in self._wrong:
            raise Unusable(name)
        raw = self._given.get(name)
        if raw is None or raw.origin.startswith("default"):
            return False
        return not self._is_dump or self.differs(name)

    def differs(self, name: str) -> bool:
        """Whether the value is another than the default."""
        return bool(getattr(self, name) != OPTIONS[name].default) if name in OPTIONS else True

    def is_changed(self, name: str) -> bool:
        """Whether the user said it, and another value than the default."""
        return self.is_given(name) and self.differs(name)

    def at(self, name: str) -> str:
        """'lora_r = 16 (train.yaml:3)', for messages."""
        raw = self._given.get(name)
        if raw is None or raw.origin.startswith("default"):
            place = " (default)"
        else:
            place = "" if raw.origin == "python" else f" ({raw.origin})"
        return f"{name} = {shown(self._values.get(name))}{place}"
