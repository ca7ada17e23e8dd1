"""Options, where their values come from, and what is wrong with them.

Nothing in here imports torch or transformers, so that a bad configuration is found at once.
"""

from __future__ import annotations

from sft.config.load import load_config, parse_cli, read_file
from sft.config.sft_config import SFTConfig, require_data
from sft.config.values import RawValue

__all__ = ["RawValue", "SFTConfig", "load_config", "parse_cli", "read_file", "require_data"]
