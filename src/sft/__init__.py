"""Fine-tuning of causal language models on instructions and long contexts, with proof of what was trained.

    from sft import SFTConfig, SFTTrainer
    SFTTrainer(SFTConfig(data_path="data/train.jsonl", use_lora=True)).train()

Names are imported when they are first used, so that ``import sft`` costs nothing and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sft.config import SFTConfig, load_config
    from sft.errors import SftError
    from sft.export.merge import merge_adapter
    from sft.training.api import SFTTrainer
    from sft.training.dataset import SFTDataset
    from sft.training.run import run_training

__version__ = "0.1.0"

__all__ = [
    "SFTConfig",
    "SFTDataset",
    "SFTTrainer",
    "SftError",
    "__version__",
    "load_config",
    "merge_adapter",
    "run_training",
]

_HOMES = {
    "SFTConfig": "sft.config",
    "SFTDataset": "sft.training.dataset",
    "SFTTrainer": "sft.training.api",
    "SftError": "sft.errors",
    "load_config": "sft.config",
    "merge_adapter": "sft.export.merge",
    "run_training": "sft.training.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sft' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
