"""The merge, one layer at a time: weights go from the base model's files through PEFT into the new files.

Never more than one layer's weights are in memory, in float32 as PEFT needs them. Every layer with an adapter is asked
twice on the way, once through the adapter and once merged, and must answer the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora.layer import MultiheadAttention
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn

from sft.errors import ExportError
from sft.export.adapter import Adapter
from sft.export.checkpoint import Checkpoint, bytes_of, open_checkpoint, weight_files
from sft.export.layer_check import LayerDifference, compare_layers, plain_layer, probe_of
from sft.export.memory import return_freed_memory
from sft.export.shards import ShardWriter, TensorSpec
from sft.export.skeleton import Skeleton, build_skeleton, own_name

RECOMPUTED_INITIALISATIONS = (bool, type(None))
"""Kinds of ``init_lora_weights`` that leave the base model's weights alone."""


class CannotStreamError(Exception):
    """Why a merge needs the whole model in memory."""


@dataclass(frozen=True)
class Output:
    """A tensor that is written."""

    key: str
    """The weight of the model that it is, or is a part of."""
    spec: TensorSpec
    """As it lies on disk."""
    is_part: bool


@dataclass
class StreamedMerge:
    """A merge that is planned: what is read, what is written."""

    checkpoint: Checkpoint
    skeleton: Skeleton
    dtype: torch.dtype
    kept_float32: tuple[str, ...]
    """Parts of names whose weights the architecture keeps in float32."""

    differences: list[LayerDifference] = field(default_factory=list)
    """Of every layer that was merged: adapter against merged weight, both float32."""

    @property
    def num_parameters(self) -> int:
        """Of the base model; a weight used twice counts twice."""
        return sum(torch.Size(shape).numel() for shape in self.skeleton.shapes.values())

    def write(self, folder: Path, max_bytes: int) -> bool:
        """Write the merged weights.

        Returns:
            Whether input embedding and head are still one weight.

        Raises:
            ExportError: a merged layer does not answer as its adapter does.
        """
        tied = self.stays_tied()
        outputs = self.outputs(tied)
        writer = ShardWriter(folder, [output.spec for output in outputs], max_bytes)
        left = {output.spec.name: output for output in outputs}
        for path, unit in self.skeleton.units.items():
            if not outputs_of(path, outputs):
                continue  # a head that is one with the embedding
            for name, tensor in self.merged_tensors(path, unit).items():
                if left.pop(name, None) is not None:
                    writer.write(name, tensor)
        for name, output in left.items():
            writer.write(name, self.read_unchanged(output))
        writer.close()
        return tied

    def merged_tensors(self, path: str, unit: nn.Module) -> dict[str, Tensor]:
        """The weights of one layer with its adapter in them, as they lie on disk."""
        names, found = self.skeleton.names, {}
        rebuilt = set(names.rebuilt.values())
        for key, tensor in self.merge_unit(path, unit).items():
            if key in rebuilt:
                found.update(names.take_apart(self.skeleton.model, key, tensor))
            else:
                found[names.sources.get(key, key)] = tensor
        return found

    def read_unchanged(self, output: Output) -> Tensor:
        """A tensor without an adapter on it."""
        return self.checkpoint.read(output.spec.name) if output.is_part else self.read(output.key)

    def read(self, key: str) -> Tensor:
        """A weight of the base model, or what the adapter holds in its place."""
        skeleton = self.skeleton
        for name in (key, *self._tied_with(key)):
            if name in skeleton.held:
                return skeleton.held[name].clone()
            if name in skeleton.names.sources:
                tensor = self.checkpoint.read(skeleton.names.sources[name])
                return _with_rows(tensor, skeleton.shapes[key])
        return skeleton.names.rebuild(skeleton.model, key, self.checkpoint.read)

    def merge_unit(self, path: str, unit: nn.Module) -> dict[str, Tensor]:
        """The weights of one layer with its adapter in them, float32, by their names in the model; frees its own."""
        self.fill(path, unit)
        probe = probe_of(unit)
        before = None if probe is None else unit(*probe)
        plain = _merged(unit)
        if before is not None and probe is not None:
            self.differences.append(compare_layers(path, before, plain(*probe)))
            self.differences[-1].check(torch.float32)
        tensors = {f"{path}.{name}": tensor for name, tensor in plain.state_dict().items()}
        self.empty(unit)
        return tensors

    def fill(self, path: str, unit: nn.Module) -> None:
        """Give a layer the base model's weights, float32.

        Raises:
            ExportError: the adapter lacks weights for it.
        """
        for module, name, key in _blank_weights(unit):
            own = f"{path}.{own_name(key)}"
            if own not in self.skeleton.shapes:
                raise ExportError(f"The adapter has no weights for {path} ({key}). Save or copy the adapter again.")
            tensor = self.read(own).float()
            module._parameters[name] = nn.Parameter(tensor, requires_grad=False)

    def empty(self, unit: nn.Module) -> None:
        """Take the base model's weights out of a layer again."""
        plain = plain_layer(unit)
        for name, parameter in list(plain._parameters.items()):
            if parameter is not None:
                plain._parameters[name] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for module in unit.modules():
            if isinstance(module, BaseTunerLayer):
                module.merged_adapters.clear()
        return_freed_memory()

    def stays_tied(self) -> bool:
        """Whether input embedding and head are one weight after the merge. Where the adapter changes one of them, both
        are merged and compared."""
        embedding, head = self.skeleton.embedding, self.skeleton.head
        if self.skeleton.ties.get(head) != embedding:
            return False
        if not any(self._unit_of(key) for key in (embedding, head)):
            return True
        return self._digest(embedding) == self._digest(head)

    def outputs(self, tied: bool) -> list[Output]:
        """What is written, in the order of the base model's files."""
        skeleton, rebuilt = self.skeleton, self.skeleton.names.rebuilt
        by_name = {name: key for key, name in skeleton.names.sources.items()}
        found = []
        for name, stored in self.checkpoint.tensors.items():
            key = by_name.get(name) or rebuilt.get(name)
            if key is None or (tied and key == skeleton.head):
                continue
            shape = stored.shape if name in rebuilt else skeleton.shapes[key]
            found.append(Output(key, TensorSpec(name, self._dtype_of(key, stored.dtype), shape), name in rebuilt))
        head = skeleton.head
        if not tied and head in skeleton.shapes and not any(output.key == head for output in found):
            found.append(Output(head, TensorSpec(head, self.dtype, skeleton.shapes[head]), is_part=False))
        return found

    def _dtype_of(self, key: str, stored: torch.dtype) -> torch.dtype:
        if key not in self.skeleton.parameters or not stored.is_floating_point:
            return stored
        return torch.float32 if any(part in self.kept_float32 for part in key.split(".")) else self.dtype

    def _digest(self, key: str) -> bytes:
        unit = self._unit_of(key)
        tensor = self.merge_unit(unit, self.skeleton.units[unit])[key] if unit else self.read(key).float()
        return hashlib.sha256(bytes_of(tensor)).digest()

    def _unit_of(self, key: str) -> str | None:
        path = key.rpartition(".")[0]
        return path if path in self.skeleton.units else None

    def _tied_with(self, key: str) -> list[str]:
        ties = self.skeleton.ties
        first = ties.get(key, key)
        return [name for name in (first, *(name for name, other in ties.items() if other == first)) if name != key]


def outputs_of(path: str, outputs: Sequence[Output]) -> list[Output]:
    """Those that belong to a layer."""
    return [output for output in outputs if output.key.startswith(f"{path}.")]


def plan_streamed_merge(
    adapter: Adapter,
    base_model: str,
    base_config: Any,
    *,
    rows: int | None,
    dtype: torch.dtype,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> StreamedMerge:
    """Read the headers of the base model's files and find a place for everything in them.

    Raises:
        CannotStreamError: something of this model or adapter needs the whole model in memory.
    """
    init = getattr(adapter.config, "init_lora_weights", True)
    if not isinstance(init, RECOMPUTED_INITIALISATIONS) and init not in ("gaussian", "orthogonal"):
        raise CannotStreamError(f"init_lora_weights is {init!r}, which computes the adapter's start from the weights")
    files = weight_files(base_model, revision)
    if not files:
        raise CannotStreamError("the base model has no safetensors files")
    checkpoint = open_checkpoint(files)
    skeleton = build_skeleton(
        adapter, base_config, list(checkpoint.tensors), rows=rows, trust_remote_code=trust_remote_code
    )
    if skeleton.model.is_remote_code():
        raise CannotStreamError("the base model brings its own code")
    _check_sources(skeleton)
    _check_units(skeleton)
    kept = tuple(getattr(skeleton.model, "_keep_in_fp32_modules_strict", None) or ())
    return StreamedMerge(checkpoint, skeleton, dtype, kept)


def _check_sources(skeleton: Skeleton) -> None:
    """Every weight lies on disk, is one with another that does, or is rebuilt from what does."""
    known = {*skeleton.names.sources, *skeleton.names.rebuilt.values()}
    known |= {name for name, other in skeleton.ties.items() if other in known}
    known |= {other for name, other in skeleton.ties.items() if name in known}
    missing = sorted(skeleton.shapes.keys() - known)
    if missing:
        raise CannotStreamError(f"the base model's files have no {missing[0]}")


def _check_units(skeleton: Skeleton) -> None:
    """Every layer with an adapter can be merged alone: its weights lie on disk as they are in the model."""
    pair = {skeleton.embedding, skeleton.head}
    tied = ({*skeleton.ties} | {*skeleton.ties.values()}) - pair
    for path, unit in skeleton.units.items():
        if any(isinstance(module, MultiheadAttention) for module in unit.modules()):
            raise CannotStreamError(f"{path} is an attention block that PEFT merges as a whole")
        keys = [key for key in skeleton.shapes if key.startswith(f"{path}.")]
        for key in keys:
            if key in skeleton.names.rebuilt.values():
                _check_parts(skeleton, key)
            if key in tied:
                raise CannotStreamError(f"{key} is shared by several layers")
        if not keys:
            raise CannotStreamError(f"{path} has no weights in the base model's files")


def _check_parts(skeleton: Skeleton, key: str) -> None:
    """A weight that is put together from tensors on disk is taken apart into the same tensors again."""
    blank = torch.empty(skeleton.shapes[key], device="meta")
    parts = skeleton.names.take_apart(skeleton.model, key, blank)
    if sorted(parts) != sorted(skeleton.names.parts_of(key)):
        raise CannotStreamError(f"{key} is put together from several tensors as the model is loaded")


def _blank_weights(unit: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """(module, name there, name in the unit) of the weights still to come from the base model."""
    skipped = "original_module" if isinstance(unit, ModulesToSaveWrapper) else None
    return [
        (module, name, f"{path}.{name}" if path else name)
        for path, module in unit.named_modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
        and parameter.device.type == "meta"
        and (skipped is None or path.split(".")[0] != skipped)
    ]


def _merged(unit: Any) -> nn.Module:
    """The base model's layer with the adapter's change in its weights."""
    try:
        if hasattr(unit, "unload_and_optionally_merge_module"):
            return unit.unload_and_optionally_merge_module(  # type: ignore[no-any-return]
                merge=True, safe_merge=True, adapter_names=None
            )
        unit.merge(safe_merge=True)
        return unit.get_base_layer()  # type: ignore[no-any-return]
    except (ValueError, NotImplementedError, AttributeError, RuntimeError) as error:
        raise ExportError(f"PEFT cannot merge this adapter: {' '.join(str(error).split())}") from error


def _with_rows(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """The tensor with rows of zeros added, or cut off, where the adapter was trained on a resized embedding."""
    if tuple(tensor.shape) == tuple(shape) or tensor.ndim == 0:
        return tensor
    rows = shape[0]
    if rows <= tensor.shape[0]:
        return tensor[:rows]
    return torch.cat([tensor, tensor.new_zeros(rows - tensor.shape[0], *tensor.shape[1:])])
