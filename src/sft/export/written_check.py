"""The check of a merged model that does not fit into memory: its files are read back, layer by layer.

For a sample of the layers with an adapter, the base model's layer with the adapter and the layer as written answer the
same random inputs. For a sample of the others, what was written is what the base model has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from sft.errors import ExportError
from sft.export.checkpoint import Checkpoint, open_checkpoint
from sft.export.layer_check import LayerDifference, compare_layers, plain_layer, probe_of
from sft.export.shards import TensorSpec
from sft.export.streamed import StreamedMerge

SAMPLE = 64
"""Layers of each kind that are compared, spread evenly over the model."""

T = TypeVar("T")


@dataclass(frozen=True)
class WrittenCheck:
    """What was compared, and the worst of it."""

    num_layers: int
    num_unchanged: int
    max_relative_difference: float


@torch.no_grad()
def check_written(merge: StreamedMerge, folder: Path, *, tied: bool, sample: int = SAMPLE) -> WrittenCheck:
    """Compare files with what they were made of.

    Raises:
        ExportError: naming the first layer that differs by more than rounding.
    """
    written = open_checkpoint(sorted(folder.glob("*.safetensors")))
    outputs = dict(merge.outputs(tied))
    lost = sorted({spec.name for spec in outputs.values()} ^ written.tensors.keys())
    if lost:
        raise ExportError(f"The merged model's files and its plan differ in {len(lost)} tensors, such as {lost[0]}.")
    units = [(path, unit) for path, unit in merge.skeleton.units.items() if _keys_of(path, outputs)]
    differences = [_compare(merge, written, path, unit, outputs) for path, unit in _spread(units, sample)]
    changed = {key for path, _ in units for key in _keys_of(path, outputs)}
    unchanged = _spread([(key, spec) for key, spec in outputs.items() if key not in changed], sample)
    for key, spec in unchanged:
        if not torch.equal(merge.read(key).to(spec.dtype), written.read(spec.name)):
            raise ExportError(f"The merged model's {spec.name} is not the base model's, though no adapter is on it.")
    worst = max((found.relative for found in differences), default=0.0)
    return WrittenCheck(len(differences), len(unchanged), worst)


def _compare(
    merge: StreamedMerge, written: Checkpoint, path: str, unit: nn.Module, outputs: dict[str, TensorSpec]
) -> LayerDifference:
    merge.fill(path, unit)
    probe = probe_of(unit)
    if probe is None:
        return _compare_tensors(merge, written, path, unit, outputs)
    expected = unit(probe)
    plain = plain_layer(unit)
    for key in _keys_of(path, outputs):
        tensor = written.read(outputs[key].name).float()
        plain._parameters[key.removeprefix(f"{path}.")] = nn.Parameter(tensor, requires_grad=False)
    found = compare_layers(path, expected, plain(probe))
    merge.empty(unit)
    found.check(merge.dtype)
    return found


def _compare_tensors(
    merge: StreamedMerge, written: Checkpoint, path: str, unit: nn.Module, outputs: dict[str, TensorSpec]
) -> LayerDifference:
    for key, tensor in merge.merge_unit(path, unit).items():
        if key in outputs and not torch.equal(tensor.to(outputs[key].dtype), written.read(outputs[key].name)):
            raise ExportError(f"The merged model's {outputs[key].name} is not what the merge made of it.")
    return LayerDifference(path, 0.0, 1.0)


def _keys_of(path: str, outputs: dict[str, TensorSpec]) -> list[str]:
    return [key for key in outputs if key.startswith(f"{path}.")]


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` of them, the first and the last among these."""
    if len(items) <= count:
        return list(items)
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]
