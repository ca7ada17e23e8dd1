"""Which tensor of a checkpoint becomes which weight of the model: the names that transformers changes as it loads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key


@dataclass(frozen=True)
class NameMap:
    """What each tensor on disk is in the model."""

    sources: Mapping[str, str]
    """Weight of the model -> tensor on disk, where one is the other."""

    rebuilt: Mapping[str, str]
    """Tensor on disk -> weight of the model, where loading makes the weight out of one or several such tensors."""

    unread: tuple[str, ...]
    """Tensors on disk that the model does not load."""


def map_names(model: Any, stored: Iterable[str]) -> NameMap:
    """Ask transformers how it would load tensors of these names into ``model`` (which may be on the meta device)."""
    expected: dict[str, Tensor] = model.state_dict()
    transforms = get_model_conversion_mapping(model)
    renamings = [entry for entry in transforms if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in transforms if isinstance(entry, WeightConverter)]
    prefix = model.base_model_prefix
    sources: dict[str, str] = {}
    rebuilt: dict[str, str] = {}
    unread: list[str] = []
    for name in stored:
        key, pattern = rename_source_key(name, renamings, converters, prefix, expected)
        if key not in expected and name in expected:
            key, pattern = rename_source_key(name, [], [], prefix, expected)
        if key not in expected:
            unread.append(name)
        elif pattern is not None or key in sources:
            rebuilt[name] = key
        else:
            sources[key] = name
    return NameMap(sources, rebuilt, tuple(unread))
