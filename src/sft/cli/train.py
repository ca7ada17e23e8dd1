"""`sft train [FILE] [--key value ...]`: the whole walk."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sft.cli.options import add_config_arguments, config_from
from sft.config import SFTConfig, require_data
from sft.terminal.plain import as_json
from sft.terminal.screen import SCREEN, columns, is_terminal, route_warnings

HELP = "train a model on your data, save it, and record what was done"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    add_config_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the path and figures of the run as one object")


def run(args: argparse.Namespace) -> int:
    """Train and say where the result is."""
    config = config_from(args)
    require_data(config)
    try:
        return _train(config, as_object=args.json, owns_process=args.owns_process)
    except KeyboardInterrupt:  # while it trains, the run hears it itself and ends in order
        _tell_interrupted(config)
        raise


def _train(config: SFTConfig, *, as_object: bool, owns_process: bool) -> int:
    from sft.training.launch import is_main_process
    from sft.training.start_up import import_engine

    if owns_process:
        if is_main_process():
            route_warnings()
        import_engine(config)
    from sft.training.run import run_training

    result = run_training(config)
    if not is_main_process():
        return 0
    if as_object:
        print(as_json(result.to_dict()))
        return 0
    from sft.cli.summary import describe_result, path_line

    width = columns(sys.stdout) if is_terminal(sys.stdout) else None
    print(path_line(result.saved.model) if config.quiet else describe_result(result, width))
    return 0


def _tell_interrupted(config: SFTConfig) -> None:
    """Ctrl-C before the first step or after the last one: what there is to go on from."""
    from sft.training.checkpoints.find import list_checkpoints
    from sft.training.going_on import how_to_go_on
    from sft.training.launch import is_main_process

    if not is_main_process():
        return
    SCREEN.leave()
    there = list_checkpoints(Path(config.output_dir))
    if there:
        said = f"{there[-1]} is the newest checkpoint. {how_to_go_on(config)}"
    else:
        said = f"There is no checkpoint in {config.output_dir}: the same command begins anew, with what is prepared."
    SCREEN.say(f"sft: interrupted. {said}", must_be_heard=True)
