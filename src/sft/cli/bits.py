"""Options of the verbs that use a model: hold its base in few bits."""

from __future__ import annotations

import argparse


def add_bits(parser: argparse.ArgumentParser) -> None:
    """Declare the options that hold a base in few bits."""
    group = parser.add_mutually_exclusive_group()
    for bits in (4, 8):
        group.add_argument(
            f"--load_in_{bits}bit",
            dest="bits",
            action="store_const",
            const=bits,
            help=f"hold the linear layers of the base in {bits} bits; as the adapter was trained over them, if it was",
        )
