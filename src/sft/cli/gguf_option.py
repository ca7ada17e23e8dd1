"""The option --gguf of the verbs that write a model."""

from __future__ import annotations

import argparse

TYPES = ("f32", "f16", "bf16", "q8_0", "auto")
"""What the converter writes without a further tool; smaller ones are llama-quantize's, from one of these."""


def add_gguf(parser: argparse.ArgumentParser) -> None:
    """Declare it."""
    parser.add_argument(
        "--gguf",
        choices=TYPES,
        metavar="TYPE",
        help=f"also write a GGUF file with llama.cpp's converter (LLAMA_CPP_DIR, or on the PATH): {', '.join(TYPES)}",
    )
