"""`sft inspect [FILE] [--key value ...]`: rendered examples, with the trained tokens coloured."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from sft.cli.options import add_config_arguments, config_from
from sft.config import SFTConfig, require_data
from sft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sft.data.types import Example

HELP = "show rendered examples with the trained tokens coloured"
DEFAULT_NUM_EXAMPLES = 5
SIDES = ("chosen", "rejected")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    add_config_arguments(parser)
    parser.add_argument(
        "--num_examples",
        type=int,
        default=DEFAULT_NUM_EXAMPLES,
        metavar="N",
        help=f"examples to show, from the first row on (default {DEFAULT_NUM_EXAMPLES}; 0: all)",
    )
    parser.add_argument("--json", action="store_true", help="print one object a line")


def run(args: argparse.Namespace) -> int:
    """Print the examples; rows that cannot be used are named on stderr."""
    if args.num_examples < 0:
        raise ConfigError(f"--num_examples {args.num_examples}: it is a count; 0 shows all.")
    config = config_from(args)
    require_data(config)
    from sft.data.show import legend, show_example
    from sft.models.tokenizer import load_tokenizer_for

    tokenizer = load_tokenizer_for(config)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    width = shutil.get_terminal_size().columns
    shown = 0
    for example in islice(_examples(config, tokenizer), args.num_examples or None):
        side = SIDES[shown % 2] if config.stage == "dpo" else None
        if args.json:
            print(json.dumps(_describe(example, tokenizer, side), ensure_ascii=False))
        else:
            print(*([] if shown else [legend(colour=colour)]), "", sep="\n")
            print(show_example(example, tokenizer, colour=colour, width=width, side=side))
        shown += 1
    if not shown:
        raise DataError("no row can be shown: each of them was rejected or dropped, for the reasons above.")
    return 0


def _examples(config: SFTConfig, tokenizer: Any) -> Iterator[Example]:
    """Examples as training would see them, in the order of the rows; what is left out is named on stderr."""
    from sft.data.bad_rows import Refused
    from sft.data.blocks import make_blocks
    from sft.data.making import make_in_full, make_renderer
    from sft.data.readings import open_readings
    from sft.data.report import DataReport
    from sft.data.types import BadRow, Conversation

    class SpokenReport(DataReport):
        def reject(self, row: Refused) -> None:
            print(f"sft: rejected: {row}", file=sys.stderr)

        def drop(self, place: str, reason: str, length: int, tokens: int | None = None) -> None:
            print(f"sft: dropped: {place}: {length} tokens, {reason}", file=sys.stderr)

    report = SpokenReport()

    def conversations() -> Iterator[Conversation]:
        for item in open_readings(config)["train"].items():
            if isinstance(item, BadRow):
                report.reject(item)
            else:
                yield item

    examples = make_in_full(config, make_renderer(config, tokenizer))(conversations(), report)
    return make_blocks(examples, config, report) if config.stage == "pretrain" else examples


def _describe(example: Example, tokenizer: Any, side: str | None) -> dict[str, Any]:
    from sft.data.show import decode_trained

    spans = decode_trained(example, tokenizer)
    described: dict[str, Any] = {
        "source": str(example.source),
        "turn": example.turn,
        "text": example.text,
        "input_ids": example.input_ids.tolist(),
        "loss_mask": example.loss_mask.tolist(),
        "trained_text": "".join(spans),
        "trained_spans": spans,
    }
    if side is not None:
        described["side"] = side
    if example.weights is not None:
        described["weights"] = example.weights.tolist()
    return described
