"""Every option of ours by name: its text, type, default and section. The order is the order of help and reference."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sft.config.adapter import AdapterOptions
from sft.config.data import DataOptions
from sft.config.declared import Declared, parse_annotation
from sft.config.evaluation import EvaluationOptions
from sft.config.fewer_bits import FewerBitsOptions
from sft.config.learning import LearningOptions
from sft.config.model import ModelOptions
from sft.config.option import Option
from sft.config.output import OutputOptions
from sft.config.speed import SpeedOptions
from sft.config.stage import StageOptions
from sft.config.training import TrainingOptions

SECTIONS: dict[str, type] = {
    "model": ModelOptions,
    "data": DataOptions,
    "stage": StageOptions,
    "adapter": AdapterOptions,
    "training": TrainingOptions,
    "learning": LearningOptions,
    "speed": SpeedOptions,
    "bits": FewerBitsOptions,
    "evaluation": EvaluationOptions,
    "output": OutputOptions,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One option as its section declares it."""

    name: str
    section: str
    annotation: str
    declared: Declared
    option: Option
    field: dataclasses.Field[Any]

    @property
    def default(self) -> Any:
        """A fresh copy for lists and mappings."""
        if self.field.default_factory is not dataclasses.MISSING:
            return self.field.default_factory()
        return self.field.default


def _entries() -> dict[str, Entry]:
    return {
        field.name: _entry(section, field) for section, owner in SECTIONS.items() for field in dataclasses.fields(owner)
    }


def _entry(section: str, field: dataclasses.Field[Any]) -> Entry:
    annotation = str(field.type)
    return Entry(field.name, section, annotation, parse_annotation(annotation), field.metadata["option"], field)


OPTIONS: dict[str, Entry] = _entries()
