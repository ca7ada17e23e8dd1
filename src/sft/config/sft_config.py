"""All options in one flat, strict, frozen object."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sft.config.adapter import AdapterOptions
from sft.config.catalog import OPTIONS
from sft.config.data import DataOptions
from sft.config.evaluation import EvaluationOptions
from sft.config.fewer_bits import FewerBitsOptions
from sft.config.learning import LearningOptions
from sft.config.model import ModelOptions
from sft.config.output import OutputOptions
from sft.config.renamed import apply_renames
from sft.config.resolve import resolve
from sft.config.secrets import refuse_secrets
from sft.config.speed import SpeedOptions
from sft.config.stage import StageOptions
from sft.config.training import TrainingOptions
from sft.config.values import RawValue
from sft.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SFTConfig(
    ModelOptions,
    DataOptions,
    StageOptions,
    AdapterOptions,
    TrainingOptions,
    LearningOptions,
    SpeedOptions,
    FewerBitsOptions,
    EvaluationOptions,
    OutputOptions,
):
    """Everything that a run needs to be told, checked.

    >>> SFTConfig(model_name_or_path="Qwen/Qwen3-0.6B", data_path="data/train.jsonl", use_lora=True, lora_r=16)

    Any other field of ``transformers.TrainingArguments`` is taken under its own name and kept in
    ``training_arguments``. Whether there is data at all is checked by what needs it (``require_data``).

    Raises:
        ConfigError: names, values and combinations that cannot work; all of them in one message.
    """

    training_arguments: dict[str, Any] = field(default_factory=dict)
    """Fields of transformers.TrainingArguments that sft has no option for, to be handed to it as they are."""

    origins: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Where each value was written: 'default', 'python', 'train.yaml:12' or '--lora_r'. Every option has an entry."""

    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """What the user should know: old names that were translated, values that another value makes void."""

    def __init__(self, **values: Any) -> None:
        origins: Mapping[str, str] = _own_keyword(values, "origins", {})
        notes: tuple[str, ...] = tuple(_own_keyword(values, "notes", ()))
        values |= _own_keyword(values, "training_arguments", {})
        raw = {name: _raw(name, value, origins) for name, value in values.items()}
        refuse_secrets(raw)
        resolved = resolve(raw)
        if resolved.problems:
            raise ConfigError(resolved.problems)
        for name, entry in OPTIONS.items():
            object.__setattr__(self, name, resolved.values.get(name, entry.default))
        object.__setattr__(self, "training_arguments", resolved.passed)
        object.__setattr__(self, "origins", dict.fromkeys(OPTIONS, "default") | resolved.origins)
        object.__setattr__(self, "notes", tuple(dict.fromkeys([*notes, *resolved.notes])))

    def replace(self, **changes: Any) -> SFTConfig:
        """The same configuration with some values changed, checked anew."""
        given = {
            name: RawValue(value, self.origins[name]) for name, value in self.to_dict().items() if self._is_set(name)
        }
        changed = apply_renames({name: _raw(name, value, {}) for name, value in changes.items()})
        if changed.problems:
            raise ConfigError(changed.problems)
        recomputed = resolve(given).notes
        lasting = [note for note in self.notes if note not in recomputed]
        return SFTConfig(**given | changed.values, notes=[*lasting, *changed.notes])

    def to_dict(self) -> dict[str, Any]:
        """Every option and pass-through field by name, made of plain data. ``SFTConfig(**it)`` gives an equal one."""
        own = {name: _copied(getattr(self, name)) for name in OPTIONS}
        return own | {name: _copied(value) for name, value in self.training_arguments.items()}

    def _is_set(self, name: str) -> bool:
        return not self.origins[name].startswith("default") or name not in OPTIONS


def require_data(config: SFTConfig) -> None:
    """Refuse a configuration without training data. For whatever is about to read it.

    Raises:
        ConfigError: there is neither data_path nor train_tasks.
    """
    if config.data_path is None and not config.train_tasks:
        raise ConfigError(
            "data_path is missing: there is nothing to train on. Give a file, a folder or a hub data set: "
            "--data_path data/train.jsonl, or data_path: in the config file."
        )


def _own_keyword(values: dict[str, Any], name: str, default: Any) -> Any:
    """Take one of the three keywords that are no options. In a file they are as unknown as any other word."""
    return default if isinstance(values.get(name, default), RawValue) else values.pop(name, default)


def _raw(name: str, value: Any, origins: Mapping[str, str]) -> RawValue:
    """A value with its origin; one that differs from the default cannot have come from there."""
    if isinstance(value, RawValue):
        return value
    origin = origins.get(name, "python")
    if origin == "default" and name in OPTIONS and value != OPTIONS[name].default:
        origin = "python"
    return RawValue(value, origin)


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, dict) else value


def _signature() -> inspect.Signature:
    """Every option with its default, so that help() and completion show them."""
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=entry.default, annotation=entry.annotation)
        for name, entry in OPTIONS.items()
    ]
    rest = inspect.Parameter("training_arguments", inspect.Parameter.VAR_KEYWORD, annotation="Any")
    return inspect.Signature([*options, rest])


assert {option.name for option in fields(SFTConfig)} - OPTIONS.keys() == {"training_arguments", "origins", "notes"}, (
    "SFTConfig inherits every section of the catalog"
)
SFTConfig.__signature__ = _signature()  # type: ignore[attr-defined]
