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
from sft.export.streamed import Output, StreamedMerge, outputs_of

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
def check_written(merge: StreamedMerge, folder: Path, *, tied: bool) -> WrittenCheck:
    """Compare files with what they were made of.

    Raises:
        ExportError: naming the first layer that differs by more than rounding.
    """
    written = open_checkpoint(sorted(folder.glob("*.safetensors")))
    outputs = merge.outputs(tied)
    lost = sorted({output.spec.name for output in outputs} ^ written.tensors.keys())
    if lost:
        raise ExportError(f"The merged model's files and its plan differ in {len(lost)} tensors, such as {lost[0]}.")
    units = {path: outputs_of(path, outputs) for path in merge.skeleton.units}
    adapted = [path for path, found in units.items() if found]
    differences = [_compare(merge, written, path, units[path]) for path in _spread(adapted, SAMPLE)]
    changed = {output.key for found in units.values() for output in found}
    unchanged = _spread([output for output in outputs if output.key not in changed], SAMPLE)
    for output in unchanged:
        name, dtype = output.spec.name, output.spec.dtype
        if not torch.equal(merge.read_unchanged(output).to(dtype), written.read(name)):
            raise ExportError(f"The merged model's {name} is not the base model's, though no adapter is on it.")
    worst = max((found.relative for found in differences), default=0.0)
    return WrittenCheck(len(differences), len(unchanged), worst)


def _compare(merge: StreamedMerge, written: Checkpoint, path: str, outputs: Sequence[Output]) -> LayerDifference:
    unit = merge.skeleton.units[path]
    merge.fill(path, unit)
    probe = probe_of(unit)
    if probe is None:
        merge.empty(unit)
        return _compare_tensors(merge, written, path, outputs)
    expected = unit(*probe)
    plain = plain_layer(unit)
    names, model = merge.skeleton.names, merge.skeleton.model
    for key, output in {output.key: output for output in outputs}.items():
        whole = names.rebuild(model, key, written.read) if output.is_part else written.read(output.spec.name)
        plain._parameters[key.removeprefix(f"{path}.")] = nn.Parameter(whole.float(), requires_grad=False)
    found = compare_layers(path, expected, plain(*probe))
    merge.empty(unit)
    found.check(merge.dtype)
    return found


def _compare_tensors(
    merge: StreamedMerge, written: Checkpoint, path: str, outputs: Sequence[Output]
) -> LayerDifference:
    """For layers that are not asked with one input: merged once more, tensor by tensor."""
    merged = merge.merged_tensors(path, merge.skeleton.units[path])
    for output in outputs:
        name = output.spec.name
        if not torch.equal(merged[name].to(output.spec.dtype), written.read(name)):
            raise ExportError(f"The merged model's {name} is not what the merge made of it.")
    return LayerDifference(path, 0.0, 1.0)


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` of them, the first and the last among these."""
    if len(items) <= count:
        return list(items)
    return [items[round(place * (len(items) - 1) / (count - 1))] for place in range(count)]
