"""`sft report RUN [RUN ...] [--output FILE]`: the page of a run, or of several laid over each other."""

from __future__ import annotations

import argparse
from pathlib import Path

from sft.errors import ConfigError

HELP = "write the page of a run, or of several laid over each other"
SEVERAL = "report.html"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output folder of a run: finished, stopped or going on")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="where the page goes; unset: report.html in the run's folder, or here for several runs",
    )


def run(args: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from sft.report.names import PAGE
    from sft.report.page import write_page

    runs = [Path(folder) for folder in args.runs]
    output = Path(args.output) if args.output else (runs[0] / PAGE if len(runs) == 1 else Path(SEVERAL))
    if output.is_dir():
        raise ConfigError(f"--output {args.output}: it is a folder. Name the file, such as {output / PAGE}.")
    try:
        page = write_page(runs, output)
    except OSError as error:
        raise ConfigError(
            f"the page cannot be written to {output}: {error.strerror or error}. Name another file with --output."
        ) from error
    print(f"report: {page}")
    return 0
