"""Checkpoints of models that transformers shared out: each process writes and reads its own pieces.

Weights and optimizer state are in one folder beside the whole weights. A run goes on with any number of processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, Shard
from torch.utils._pytree import tree_map

from sft.training.gather import share_out_again

FOLDER = "pieces"

OPTIONS = StateDictOptions(flatten_optimizer_state_dict=True, ignore_frozen_params=True, strict=False)


def save_pieces(model: nn.Module, optimizer: Any, checkpoint: Path) -> None:
    """Write what is trained and the optimizer's state; every process calls it."""
    save(_in_one_stretch(_state(model, optimizer)), checkpoint_id=checkpoint / FOLDER)


def load_pieces(model: nn.Module, optimizer: Any, checkpoint: Path) -> None:
    """Read them back; every process calls it."""
    own = _state(model, optimizer)
    read = _in_one_stretch(own)
    load(read, checkpoint_id=checkpoint / FOLDER)
    state = tree_map(_placed_like, read, own)
    set_state_dict(
        model,
        _bare(optimizer),
        model_state_dict=state["model"],
        optim_state_dict=state["optimizer"],
        options=OPTIONS,
    )


def _state(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    share_out_again(model)
    weights, state = get_state_dict(model, _bare(optimizer), options=OPTIONS)
    return {"model": weights, "optimizer": state}


def _bare(optimizer: Any) -> Any:
    """Without accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def _in_one_stretch(state: dict[str, Any]) -> dict[str, Any]:
    """Weights parted along one dimension twice lie in several stretches, which a file of pieces cannot describe."""
    return tree_map(_contiguous, state)  # type: ignore[no-any-return]


def _contiguous(value: Any) -> Any:
    if not isinstance(value, DTensor):
        return value
    plain = [Shard(place.dim) if hasattr(place, "split_factor") else place for place in value.placements]  # type: ignore[attr-defined]
    return value if tuple(plain) == tuple(value.placements) else value.redistribute(placements=plain)


def _placed_like(value: Any, example: Any) -> Any:
    if not isinstance(value, DTensor) or value.placements == example.placements:
        return value
    return value.redistribute(placements=example.placements)
