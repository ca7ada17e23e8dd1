"""What ``save_pretrained`` would write as weights, caught before it is written.

Names, shards and conversions stay the libraries' own; the writing is ours (``tensor_file``). A version of them that
writes in another way writes as it does, and its files are hashed and synced afterwards like all others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

WRITER = "safe_save_file"
MODULES = ("transformers.modeling_utils", "peft.peft_model")
"""Where it is called; looked up when it is used, for a run without adapters does not import PEFT."""


@dataclass
class TensorFile:
    """A safetensors file that is still to be written."""

    path: Path
    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]


@contextmanager
def catching_weights() -> Iterator[list[TensorFile]]:
    """Within it, weight files of models and adapters are listed instead of written."""
    caught: list[TensorFile] = []

    def take(
        tensors: Mapping[str, torch.Tensor], filename: str | os.PathLike[str], metadata: Any = None, **_: Any
    ) -> None:
        caught.append(TensorFile(Path(filename), dict(tensors), dict(metadata or {})))

    with ExitStack() as stack:
        for module in filter(None, map(sys.modules.get, MODULES)):
            if hasattr(module, WRITER):
                stack.enter_context(patch.object(module, WRITER, take))
        yield caught
