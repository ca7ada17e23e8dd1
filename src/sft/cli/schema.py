"""`sft schema`: the options for programs (JSON Schema, for editors) and for people (Markdown)."""

from __future__ import annotations

import argparse
import json

from sft.config.describe import json_schema, reference

HELP = "print the JSON Schema or the reference of all options"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    parser.add_argument("--markdown", action="store_true", help="print the reference page instead")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    print(reference() if args.markdown else json.dumps(json_schema(), indent=2), end="" if args.markdown else "\n")
    return 0
