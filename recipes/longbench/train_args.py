"""The arguments of train.py. Their names and defaults stand in sft/dialects/longbench_args.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sft import SFTConfig
from sft.cli.options import config_from_words


def take_gpus(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The GPUs that --gpu names, and the other words."""
    parser = argparse.ArgumentParser(prog="train.py", allow_abbrev=False, add_help=False)
    parser.add_argument("--gpu", default="")
    args, rest = parser.parse_known_args(argv)
    return [gpu.strip() for gpu in args.gpu.split(",") if gpu.strip()], rest


def parse_args(argv: Sequence[str] | None = None) -> SFTConfig:
    """The whole configuration; default: from this process's command line."""
    _, words = take_gpus(sys.argv[1:] if argv is None else argv)
    return config_from_words(words, "longbench_args")
