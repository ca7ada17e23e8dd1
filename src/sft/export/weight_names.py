"""Which tensor of a checkpoint becomes which weight of the model: what transformers changes as it loads.

Most tensors only change their names. Some weights are made of several tensors, such as the experts of a mixture, which
lie one by one on disk and are one weight in the model; saving takes them apart again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
    revert_weight_conversion,
)


@dataclass(frozen=True)
class NameMap:
    """What each tensor on disk is in the model."""

    sources: Mapping[str, str]
    """Weight of the model -> tensor on disk, where one is the other."""

    rebuilt: Mapping[str, str]
    """Tensor on disk -> weight of the model, where loading makes the weight out of one or several such tensors."""

    unread: tuple[str, ...]
    """Tensors on disk that the model does not load."""

    converters: Mapping[str, tuple[WeightConverter, str]]
    """Rebuilt tensor on disk -> what rebuilds it, and the pattern it was found by."""

    def parts_of(self, key: str) -> list[str]:
        """Tensors on disk that make up a weight, in the order that transformers takes them."""
        return sorted((name for name, whole in self.rebuilt.items() if whole == key), key=dot_natural_key)

    def rebuild(self, model: Any, key: str, read: Callable[[str], Tensor]) -> Tensor:
        """Make a weight out of its tensors on disk."""
        parts = self.parts_of(key)
        converter = copy.deepcopy(self.converters[parts[0]][0])
        for name in parts:
            converter.add_tensor(key, name, self.converters[name][1], read(name))
        whole: Tensor = converter.convert(key, model=model, config=model.config)[key]
        return whole

    def take_apart(self, model: Any, key: str, weight: Tensor) -> dict[str, Tensor]:
        """The tensors that a weight is saved as."""
        return dict(revert_weight_conversion(model, {key: weight}))


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
    found: dict[str, tuple[WeightConverter, str]] = {}
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    for name in stored:
        key, pattern = rename_source_key(name, renamings, converters, prefix, expected)
        if key not in expected and name in expected:
            key, pattern = rename_source_key(name, [], [], prefix, expected)
        if key not in expected:
            unread.append(name)
        elif pattern is not None:
            rebuilt[name], found[name] = key, (by_pattern[pattern], pattern)
        else:
            sources.setdefault(key, name)
    return NameMap(sources, rebuilt, tuple(unread), found)
