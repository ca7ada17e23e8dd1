"""States of optimizers, schedules and random numbers <-> plain JSON and tensors. Nothing here can hold code.

{"step": tensor, "betas": (0.9, 0.999)}  <->  {"step": {"#tensor": "a/step"}, "betas": {"#tuple": [0.9, 0.999]}}
"""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

TENSOR, TUPLE, PAIRS = "#tensor", "#tuple", "#pairs"
PLAIN = (bool, int, float, str, type(None))


def to_plain(value: Any, tensors: dict[str, torch.Tensor], name: str) -> Any:
    """``value`` as JSON; its tensors go into ``tensors`` under names that begin with ``name``.

    Raises:
        TypeError: it holds something that is neither plain nor an ordinary tensor.
    """
    if isinstance(value, torch.Tensor):
        if type(value) not in (torch.Tensor, torch.nn.Parameter):
            raise TypeError(f"{name} is a {type(value).__name__}")
        tensors[name] = value.detach()
        return {TENSOR: name}
    if type(value) in PLAIN:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        pairs = {key: to_plain(entry, tensors, f"{name}/{key}") for key, entry in value.items()}
        if all(isinstance(key, str) and not key.startswith("#") for key in pairs):
            return pairs
        if all(type(key) in PLAIN for key in pairs):
            return {PAIRS: [[key, entry] for key, entry in pairs.items()]}
    if isinstance(value, list | tuple):
        entries = [to_plain(entry, tensors, f"{name}/{place}") for place, entry in enumerate(value)]
        return entries if isinstance(value, list) else {TUPLE: entries}
    raise TypeError(f"{name} is a {type(value).__name__}")


def from_plain(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """What ``to_plain`` was given."""
    if isinstance(value, list):
        return [from_plain(entry, tensors) for entry in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        return tensors[value[TENSOR]]
    if TUPLE in value:
        return tuple(from_plain(entry, tensors) for entry in value[TUPLE])
    if PAIRS in value:
        return {key: from_plain(entry, tensors) for key, entry in value[PAIRS]}
    return {key: from_plain(entry, tensors) for key, entry in value.items()}


def random_states() -> dict[str, Any]:
    """Where every generator of this process stands, as JSON."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    states: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "numpy": [name, _packed(np.asarray(keys)), position, has_gauss, cached],
        "cpu": _packed(torch.random.get_rng_state().numpy()),
    }
    if torch.cuda.is_available():
        device = torch.cuda.current_device()
        states["cuda"] = _packed(torch.cuda.get_rng_state(device).numpy())
    return states


def set_random_states(states: Mapping[str, Any]) -> None:
    """Put the generators of this process where they stood. A state of a device that is not here is left out."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, _unpacked(keys, np.uint32), position, has_gauss, cached))
    torch.random.set_rng_state(torch.from_numpy(_unpacked(states["cpu"], np.uint8)))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.from_numpy(_unpacked(states["cuda"], np.uint8)), torch.cuda.current_device())


def _packed(numbers: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(numbers.tobytes()).decode()


def _unpacked(text: str, kind: Any) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = np.frombuffer(base64.b64decode(text), dtype=kind).copy()
    return found
