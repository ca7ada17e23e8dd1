"""`sft plan [FILE] [--key value ...]`: all of train except training."""

from __future__ import annotations

import argparse
import json

from sft.cli.options import add_config_arguments, config_from
from sft.config import require_data

HELP = "prepare the data and say what training would do, without training"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    add_config_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as one object")


def run(args: argparse.Namespace) -> int:
    """Read, render, count, pack; print the plan."""
    config = config_from(args)
    require_data(config)
    from sft.data.prepare import prepare
    from sft.models.tokenizer import load_tokenizer_for
    from sft.training.build import refuse_packing_by_family
    from sft.training.launch import world_size
    from sft.training.plan import describe_plan, make_plan
    from sft.training.task_data import task_rows
    from sft.training.unpacked import packed_or_by_length

    config = packed_or_by_length(config)
    refuse_packing_by_family(config)
    tokenizer = load_tokenizer_for(config)
    data = prepare(config, tokenizer, more=task_rows(config, tokenizer), quiet=args.json)
    sharing = config.tensor_parallel_size * config.context_parallel_size
    plan = make_plan(config, data, row_groups=max(1, world_size() // sharing))
    if args.json:
        print(json.dumps(plan.to_dict(), ensure_ascii=False))
        return 0
    print(describe_plan(plan))
    print(f"  {'files':<11}{config.output_dir}: {', '.join(plan.files)}")
    return 0
