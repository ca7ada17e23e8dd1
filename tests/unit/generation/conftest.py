"""Tiny real models to generate with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.fixture(scope="module")
def stories(shared_data: Path) -> tuple[Any, Any]:
    """The real 260K-parameter story teller and its tokenizer."""
    folder = shared_data / "models" / "stories260K-hf"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(folder)
