"""How many processes share a layer, a row, an expert: what the options ask for, and what the model then shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.distributed.tensor import DTensor
from transformers.distributed import DistributedConfig

from sft.config import SFTConfig
from sft.errors import ConfigError, ModelError
from sft.models.context import shared_by

WHOLE = "Replicate"
"""What DTensor calls a weight that is not parted along a dimension of its mesh."""


@dataclass(frozen=True)
class Mesh:
    """Processes in groups. Ranks count up within a tensor group, then a context group, then over the rows."""

    processes: int = 1
    tensor: int = 1
    """Processes that compute each layer together."""
    context: int = 1
    """Processes that share each row."""
    expert: int = 1
    """Processes that share the experts out."""
    replicas: int = 1
    """Copies of what FSDP2 shares out."""

    @property
    def row_groups(self) -> int:
        """Groups of processes that see different rows."""
        return self.processes // (self.tensor * self.context)

    @property
    def is_by_library(self) -> bool:
        """Whether transformers parts the weights while it loads them."""
        return max(self.tensor, self.expert, self.replicas) > 1

    @property
    def name(self) -> str:
        """What it is called among strategies, where it is by the library."""
        return "TP" if self.tensor == self.processes else "FSDP2"

    @property
    def sizes(self) -> dict[str, int]:
        """By option, those that are not 1."""
        every = {
            "tensor_parallel_size": self.tensor,
            "context_parallel_size": self.context,
            "expert_parallel_size": self.expert,
            "dp_replicate_size": self.replicas,
        }
        return {name: size for name, size in every.items() if size > 1}

    def to_transformers(self) -> DistributedConfig | None:
        """The same in transformers' words; None where it has nothing to part."""
        if not self.is_by_library:
            return None
        return DistributedConfig(
            tp_size=self.tensor,
            fsdp_size=self.processes // (self.tensor * self.replicas),
            dp_replicate_size=self.replicas,
            ep_size=self.expert,
        )

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Mesh:
        """What a run wrote down of its processes."""
        return cls(
            processes=record["num_processes"],
            tensor=record.get("tensor_parallel_size", 1),
            context=record.get("context_parallel_size", 1),
            expert=record.get("expert_parallel_size", 1),
            replicas=record.get("dp_replicate_size", 1),
        )

    def describe(self) -> str:
        """'tensor_parallel_size 2, context_parallel_size 2, rows over 1 group'; empty where each has its own rows."""
        if not self.sizes:
            return ""
        groups = f"rows over {self.row_groups} group{'s' if self.row_groups > 1 else ''} of processes"
        return ", ".join([*(f"{name} {size}" for name, size in self.sizes.items()), groups])


def asked_mesh(config: SFTConfig, processes: int) -> Mesh:
    """What the options ask for.

    Raises:
        ConfigError: so many processes cannot be grouped like that.
    """
    mesh = Mesh(
        processes=processes,
        tensor=config.tensor_parallel_size,
        context=config.context_parallel_size,
        expert=config.expert_parallel_size,
        replicas=config.dp_replicate_size,
    )
    for product, names in (
        (mesh.tensor * mesh.context, ("tensor_parallel_size", "context_parallel_size")),
        (mesh.tensor * mesh.replicas, ("tensor_parallel_size", "dp_replicate_size")),
        (mesh.expert * mesh.replicas, ("expert_parallel_size", "dp_replicate_size")),
    ):
        if processes % product:
            asked = " x ".join(f"{name} = {mesh.sizes[name]}" for name in names if name in mesh.sizes)
            raise ConfigError(
                f"{asked} wants a multiple of {product} processes, and {processes} were started. Start as many, such "
                f"as torchrun --standalone --nproc_per_node={product}, or make it smaller."
            )
    if mesh.expert > 1 and mesh.expert % mesh.tensor:
        raise ConfigError(
            f"expert_parallel_size = {mesh.expert} is no multiple of tensor_parallel_size = {mesh.tensor}: processes "
            "that compute layers together hold their experts together. Make it a multiple."
        )
    return mesh


def refuse_tied(model: Any, mesh: Mesh) -> None:
    """Raise ModelError where transformers 5.23 would let embedding and head, one weight, become two.

    It does so where a tensor group parts them and FSDP2 shares these parts once more: observed on Qwen3, whose second
    step then has another loss.
    """
    if 1 < mesh.tensor < mesh.processes and getattr(model.config, "tie_word_embeddings", False):
        raise ModelError(
            f"tensor_parallel_size = {mesh.tensor} in {mesh.processes} processes: embedding and output layer of this "
            f"{model.config.model_type} model are one weight, which transformers cannot part both by layers and by "
            f"FSDP2. Start {mesh.tensor} processes, or use fsdp alone."
        )


@contextmanager
def added_later(model: nn.Module) -> Iterator[None]:
    """Keep what weights that no process shares have of earlier batches aside while a batch is computed.

    transformers 5.23 sums the gradients of norms inside attention over a tensor group after each batch of a step, those
    of the batches before among them, which would count these again. (Weights that FSDP2 shares are added up shared,
    where each batch is reduced by itself.)
    """
    before = {
        weight: weight.grad
        for weight in model.parameters()
        if weight.grad is not None and not isinstance(weight, DTensor)
    }
    for weight in before:
        weight.grad = None
    yield
    for weight, gradient in before.items():
        weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)


def mesh_in_force(model: nn.Module, processes: int) -> Mesh:
    """Read off the placements of the weights, and off the attention that exchanges rows."""
    found: dict[str, int] = {}
    for weight in model.parameters():
        if not isinstance(weight, DTensor):
            continue
        names = weight.device_mesh.mesh_dim_names
        if names is None:  # accelerate's FSDP2 has one dimension, without a name
            continue
        for name, size, placement in zip(names, weight.device_mesh.shape, weight.placements, strict=True):
            if type(placement).__name__ != WHOLE or name == "dp_replicate":
                found[name] = max(size, found.get(name, 1))
    return Mesh(
        processes=processes,
        tensor=found.get("tp", 1),
        context=shared_by(model),
        expert=found.get("ep", 1),
        replicas=found.get("dp_replicate", 1),
    )


def shares_weights_by_rows(model: nn.Module) -> bool:
    """Whether weights are parted over processes that see different rows (FSDP2), not only within a layer."""
    return any(
        _parted(weight, weight.device_mesh.mesh_dim_names)
        for weight in model.parameters()
        if isinstance(weight, DTensor)
    )


def _parted(weight: Any, names: tuple[str, ...] | None) -> bool:
    if names is None:
        return True
    return any(
        size > 1 and name not in ("tp", "ep") for name, size in zip(names, weight.device_mesh.shape, strict=True)
    )
