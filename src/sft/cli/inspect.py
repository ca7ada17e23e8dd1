"""`sft inspect [FILE] [--key value ...]`: rendered examples, with the trained tokens coloured; paged and searched."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sft.cli.options import add_config_arguments, config_from
from sft.config import SFTConfig, require_data
from sft.errors import ConfigError, DataError
from sft.terminal.pager import Page, paged
from sft.terminal.plain import as_json
from sft.terminal.screen import columns, takes_colour

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
    parser.add_argument(
        "--search", metavar="TEXT", help="show only examples that hold TEXT, in capitals or not, and mark it"
    )
    parser.add_argument("--json", action="store_true", help="print one object a line")


def run(args: argparse.Namespace) -> int:
    """Print the examples; rows that cannot be used are named on stderr."""
    if args.num_examples < 0:
        raise ConfigError(f"--num_examples {args.num_examples}: it is a count; 0 shows all.")
    if args.search == "":
        raise ConfigError("--search holds no text. Write what an example must hold; without --search all are shown.")
    config = config_from(args)
    require_data(config)
    from sft.data.show import search_for
    from sft.models.tokenizer import load_tokenizer_for

    tokenizer = load_tokenizer_for(config)
    search = None if args.search is None else search_for(args.search)
    with paged() as page:
        chosen = Choice(_examples(config, tokenizer, page.remark), tokenizer, search, most=args.num_examples or None)
        for place, example in chosen:
            side = SIDES[place % 2] if config.stage == "dpo" else None
            if args.json:
                page.write(as_json(_describe(example, tokenizer, side)))
            else:
                _show(page, example, tokenizer, side, search, is_first=chosen.shown == 1)
        if not chosen.seen:
            raise DataError("no row can be shown: each of them was rejected or dropped, for the reasons above.")
        if search is not None:
            page.remark(f"{chosen.shown:,} of {chosen.seen:,} examples that were looked at hold {args.search!r}")
    return 0


class Choice:
    """Examples with their places, as many as are to be shown: those that hold what is searched for."""

    def __init__(
        self, examples: Iterator[Example], tokenizer: Any, search: re.Pattern[str] | None, *, most: int | None
    ) -> None:
        self.examples = examples
        self.tokenizer = tokenizer
        self.search = search
        self.most = most
        self.seen = self.shown = 0

    def __iter__(self) -> Iterator[tuple[int, Example]]:
        from sft.data.show import holds

        for place, example in enumerate(self.examples):
            self.seen += 1
            if self.search is None or holds(example, self.tokenizer, self.search):
                self.shown += 1
                yield place, example
            if self.shown == self.most:
                return


def _show(
    page: Page, example: Example, tokenizer: Any, side: str | None, search: re.Pattern[str] | None, *, is_first: bool
) -> None:
    from sft.data.show import legend, show_example

    colour, width = takes_colour(sys.stdout), columns(sys.stdout)
    if is_first:
        page.write(legend(colour=colour, width=width, search=search is not None))
    page.write("")
    page.write(show_example(example, tokenizer, colour=colour, width=width, side=side, search=search))


def _examples(config: SFTConfig, tokenizer: Any, remark: Callable[[str], None]) -> Iterator[Example]:
    """Examples as training would see them, in the order of the rows; what is left out is remarked."""
    from sft.data.bad_rows import Refused
    from sft.data.blocks import make_blocks
    from sft.data.making import make_in_full, make_renderer
    from sft.data.readings import open_readings
    from sft.data.report import DataReport
    from sft.data.types import BadRow, Conversation

    class SpokenReport(DataReport):
        def reject(self, row: Refused) -> None:
            remark(f"sft: rejected: {row}")

        def drop(self, place: str, reason: str, length: int, tokens: int | None = None) -> None:
            remark(f"sft: dropped: {place}: {length} tokens, {reason}")

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
