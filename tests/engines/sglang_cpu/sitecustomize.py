"""Lets SGLang start where there is no CUDA: read by every Python of its environment, spawned processes included.

SGLang imports torchvision and torchaudio for vision and speech models, and its LoRA code asks for pinned memory, which
needs an accelerator. Empty modules stand in for the first, ordinary memory for the second. Nothing else is touched, and
nothing here computes: see ``vllm/_custom_ops.py`` beside this file for the one operation that does.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any

ABSENT = ("torchvision", "torchaudio")
FACTORIES = ("arange", "empty", "empty_like", "full", "ones", "rand", "randn", "tensor", "zeros", "zeros_like")


class _AnyClass(type):
    """A class with whatever is asked of it: another such class."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyClass(name, (), {})


class _AnyModule(ModuleType):
    """A module with whatever is asked of it, at import time only."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyClass(name, (), {})


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        only_asked = sys._getframe(2).f_globals.get("__name__") == "importlib.util"
        if only_asked or name.partition(".")[0] not in ABSENT:
            return None  # whoever looks first, as transformers does, is told the truth
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _AnyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


class _AfterTorch(importlib.abc.MetaPathFinder):
    """Patches torch once it has been imported, so that a Python which does not need it starts quickly."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_patch(module: ModuleType) -> None:
            run(module)
            _without_pinned_memory(module)

        spec.loader.exec_module = run_and_patch  # type: ignore[method-assign]
        return spec


def _without_pinned_memory(torch: Any) -> None:
    for name in FACTORIES:
        setattr(torch, name, _dropping_pin_memory(getattr(torch, name)))
    torch.Tensor.pin_memory = lambda self, *args, **kwargs: self


def _dropping_pin_memory(make: Any) -> Any:
    def made(*args: Any, pin_memory: bool = False, **kwargs: Any) -> Any:
        return make(*args, **kwargs)

    made.__name__ = make.__name__
    return made


sys.meta_path.insert(0, _AfterTorch())
sys.meta_path.append(_Absent())
