"""Real rows and real tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from sft.models.tokenizer import load_tokenizer
from sft.tasks import TaskOptions


@pytest.fixture(scope="module")
def places(shared_data: Path) -> TaskOptions:
    """Where the real rows lie."""
    return TaskOptions(
        longbench_dir=str(shared_data / "longbench"),
        qmsum_dir=str(shared_data / "qmsum"),
        truthfulqa_file=str(shared_data / "truthfulqa" / "TruthfulQA-817.csv"),
    )


@pytest.fixture(scope="module")
def qwen3(shared_data: Path) -> Any:
    return load_tokenizer(str(shared_data / "models" / "qwen3-tokenizer"))


@pytest.fixture(scope="module")
def stories_tokenizer(shared_data: Path) -> Any:
    """Has no chat template of its own, and gets the default one."""
    return load_tokenizer(str(shared_data / "models" / "stories260K-hf"))


@pytest.fixture(scope="module")
def stories_model(shared_data: Path) -> Any:
    """The 260K-parameter story teller; its context is 512 tokens."""
    return AutoModelForCausalLM.from_pretrained(shared_data / "models" / "stories260K-hf", dtype=torch.float32)
