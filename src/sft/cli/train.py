"""`sft train [FILE] [--key value ...]`: the whole walk."""

from __future__ import annotations

import argparse
import json

from sft.cli.options import add_config_arguments, config_from
from sft.config import require_data

HELP = "train a model on your data, save it, and record what was done"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    add_config_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the path and figures of the run as one object")


def run(args: argparse.Namespace) -> int:
    """Train and say where the result is."""
    config = config_from(args)
    require_data(config)
    from sft.training.launch import is_main_process
    from sft.training.start_up import import_engine

    if args.owns_process:
        import_engine(config)
    from sft.training.run import run_training

    result = run_training(config)
    if not is_main_process():
        return 0
    if args.json:
        print(json.dumps(result.to_dict()))
        return 0
    if result.eval_loss is not None and result.eval_loss_before is not None:
        per = "pair of answers" if config.stage == "dpo" else "trained token"
        print(f"evaluation loss per {per}: before {result.eval_loss_before:.4f}, after {result.eval_loss:.4f}")
    print(f"saved: {result.saved.model}")
    if result.saved.merged is not None:
        print(f"merged: {result.saved.merged}")
    print(f"try it: sft chat --model {result.saved.merged or result.saved.model}")
    return 0
