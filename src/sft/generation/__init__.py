"""What generates text. One contract (``engine``), one file per engine; engines are imported by who uses them."""

from __future__ import annotations

from sft.generation.engine import Completion, Engine, Progress, Prompt, Sampling

__all__ = ["Completion", "Engine", "Progress", "Prompt", "Sampling"]
