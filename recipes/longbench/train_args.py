"""The arguments of train.py. Their names and defaults stand in sft/dialects/longbench_args.py."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from sft import SFTConfig
from sft.cli.options import config_from_words
from sft.errors import ConfigError

GPU = re.compile(r"-?\d+|(GPU|MIG)-[\w/-]+")
"""A number or a name as CUDA_VISIBLE_DEVICES takes them; -1 is none."""


def take_gpus(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The GPUs that --gpu names, none for all of them, and the other words.

    Raises:
        ConfigError: what it names is no GPU.
    """
    parser = argparse.ArgumentParser(prog="train.py", allow_abbrev=False, add_help=False)
    parser.add_argument("--gpu", default="")
    args, rest = parser.parse_known_args(argv)
    gpus = [gpu.strip() for gpu in args.gpu.split(",") if gpu.strip()]
    if gpus == ["all"]:
        return [], rest
    for gpu in gpus:
        if not GPU.fullmatch(gpu) or gpus.count(gpu) > 1:
            why = f"{gpu!r} is named twice" if GPU.fullmatch(gpu) else f"{gpu!r} is no number of a GPU"
            raise ConfigError(f"--gpu {args.gpu}: {why}. Write numbers with commas between them, such as 0,1; or all.")
    return gpus, rest


def parse_args(argv: Sequence[str] | None = None) -> SFTConfig:
    """The whole configuration; default: from this process's command line."""
    _, words = take_gpus(sys.argv[1:] if argv is None else argv)
    return config_from_words(words, "longbench_args")
