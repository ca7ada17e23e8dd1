"""Bytes of tensors that are alive, counted while code runs over tensors without content."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sft.training.memory.heap import Event

LARGE = 1 << 16
"""Bytes from which on it matters whether a sum of gradients takes the place of one of them."""

GROUPED = getattr(torch.ops.aten, "_grouped_mm", None) and torch.ops.aten._grouped_mm.default
"""The product of experts' weights with the tokens that each is asked; without content PyTorch knows it in bfloat16
only."""


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts storages of tensors without content, from their making until nothing holds them, and the most at a time.

    Enter it inside a FakeTensorMode. Operations on real tensors only (ids, labels, places of documents) are carried
    out, so that code may look at them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kind = "activations"
        """What is made now is counted as."""
        self.live: Counter[str] = Counter()
        self.peak = 0
        self.at_peak: Counter[str] = Counter()
        """Bytes by kind when ``peak`` was reached."""
        self.in_backward = False
        self._sizes: dict[int, int] = {}
        self._kinds: dict[int, str] = {}
        self._heirs: dict[int, int] = {}
        self._total = 0
        self.course: list[Event] = []
        """What was made and freed since the peak was forgotten."""
        self._blocks: dict[int, int] = {}
        self._num_blocks = 0

    @property
    def total(self) -> int:
        """Bytes alive now."""
        return self._total

    def forget_peak(self) -> None:
        """Count the most from now on."""
        self.peak, self.at_peak = self._total, Counter(self.live)
        self.course = []

    @contextmanager
    def counting_as(self, kind: str) -> Iterator[None]:
        """What is made inside counts as ``kind``."""
        before, self.kind = self.kind, kind
        try:
            yield
        finally:
            self.kind = before

    def relabel(self, tensor: Tensor, kind: str) -> None:
        """Count a tensor as something else from now on."""
        key = tensor.untyped_storage()._cdata
        if key in self._kinds:
            size, before = self._sizes[key], self._kinds[key]
            self.live[before] -= size
            self.live[kind] += size
            self._kinds[key] = kind

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        fakes = [tensor for tensor in tensors if isinstance(tensor, FakeTensor)]
        if tensors and not fakes:
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        args = tuple(_places(arg) for arg in args)
        result = _grouped_product(*args) if func is GROUPED else func(*args, **kwargs)
        for made in tree_leaves(result):
            if isinstance(made, FakeTensor):
                self._count(made, heir_of=self._replaced(func, args))
        return result

    def _replaced(self, func: Any, args: Sequence[Any]) -> Tensor | None:
        """The gradient whose place a sum of two takes.

        Autograd adds them in place, but not under a mode such as this one. Code that is run again for a checkpoint
        has gradients enabled.
        """
        is_sum = func is torch.ops.aten.add.Tensor and self.in_backward and not torch.is_grad_enabled()
        if not is_sum or not all(isinstance(one, Tensor) for one in args[:2]) or args[0].shape != args[1].shape:
            return None
        return args[0] if args[0].nbytes >= LARGE else None

    def _count(self, tensor: Tensor, *, heir_of: Tensor | None) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        size = storage.nbytes()
        before = None if heir_of is None else heir_of.untyped_storage()._cdata
        if before in self._sizes and self._sizes[before] == size and before not in self._heirs:
            self._heirs[before], self._sizes[key], self._kinds[key] = key, 0, self._kinds[before]
        else:
            self._sizes[key], self._kinds[key] = size, self.kind
            self._add(self.kind, size)
            self._num_blocks += 1
            self._blocks[key] = self._num_blocks
            self.course.append((self._num_blocks, size))
        weakref.finalize(storage, self._release, key)

    def _add(self, kind: str, size: int) -> None:
        self.live[kind] += size
        self._total += size
        if self._total > self.peak:
            self.peak, self.at_peak = self._total, Counter(self.live)

    def _release(self, key: int) -> None:
        size, kind = self._sizes.pop(key), self._kinds.pop(key)
        heir = self._heirs.pop(key, None)
        if heir in self._sizes:
            self._sizes[heir] += size
            self.live[kind] -= size
            self.live[self._kinds[heir]] += size
            self._blocks[heir] = self._blocks.pop(key)
            return
        self.live[kind] -= size
        self._total -= size
        if key in self._blocks:
            self.course.append((self._blocks.pop(key), 0))


def _places(value: Any) -> Any:
    """A real mask as the places where it is true: how many there are must be known to know a shape."""
    if isinstance(value, list):
        return [place for one in value for place in _places_of(one)]
    return value


def _places_of(index: Any) -> list[Any]:
    if not isinstance(index, Tensor) or isinstance(index, FakeTensor) or index.dtype != torch.bool:
        return [index]
    with unset_fake_temporarily():
        return list(index.nonzero().unbind(1))


def _grouped_product(one: Tensor, other: Tensor, offsets: Tensor | None = None, *_rest: Any) -> Tensor:
    """What a product in groups along the tokens gives: (tokens, out), or a weight's gradient (groups, in, out)."""
    if one.ndim == 2 and other.ndim == 2:
        groups = 1 if offsets is None else len(offsets)
        return one.new_empty(groups, one.shape[0], other.shape[1])
    return one.new_empty(*one.shape[:-1], other.shape[-1])
