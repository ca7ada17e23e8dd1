"""Options, where their values come from, and what is wrong with them.

Nothing in here imports torch or transformers, so that a bad configuration is found at once.
"""

from __future__ import annotations

from sft.config.sft_config import SFTConfig, require_data

__all__ = ["SFTConfig", "require_data"]
