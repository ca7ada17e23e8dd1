"""`sft plan [FILE] [--key value ...]`: all of train except training."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

from sft.cli.options import add_config_arguments, config_from
from sft.config import SFTConfig, require_data
from sft.config.values import shown
from sft.errors import ConfigError
from sft.terminal.folding import folded
from sft.terminal.plain import as_json, plain
from sft.terminal.screen import columns, is_terminal

HELP = "prepare the data and say what training would do and need, without training"

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    add_config_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as one object")
    parser.add_argument(
        "--config_only", action="store_true", help="check the configuration and show what it says; load nothing"
    )
    parser.add_argument(
        "--memory_only",
        action="store_true",
        help="read no data and no weights: the memory of rows of max_length tokens, from the model's config.json",
    )
    parser.add_argument(
        "--gpu_memory", metavar="SIZE", help="plan for a GPU with so much memory that is not here, such as 80GiB"
    )


def run(args: argparse.Namespace) -> int:
    """Read, render, count, pack; print the plan and the memory that it needs."""
    config = config_from(args)
    if args.config_only:
        print(as_json(_given(config)) if args.json else plain(describe_given(config)))
        return 0
    gpu = None if args.gpu_memory is None else read_size(args.gpu_memory)
    if not args.memory_only:
        require_data(config)
    if args.owns_process:
        from sft.training.start_up import import_engine

        import_engine(config)
    if args.memory_only:
        found, lines = plan_memory(config, gpu, None, None)
        print(as_json({"memory": found}) if args.json else _shown(_aligned("memory", lines)))
        return 0
    from sft.data.prepare import prepare
    from sft.models.tokenizer import load_tokenizer_for
    from sft.training.attention_choice import refuse_packing_by_family
    from sft.training.launch import world_size
    from sft.training.plan import make_plan
    from sft.training.plan_text import describe_plan
    from sft.training.task_data import task_rows
    from sft.training.unpacked import packed_or_by_length

    config = packed_or_by_length(config)
    refuse_packing_by_family(config)
    tokenizer = load_tokenizer_for(config)
    data = prepare(config, tokenizer, more=task_rows(config, tokenizer), quiet=args.json)
    sharing = config.tensor_parallel_size * config.context_parallel_size
    plan = make_plan(config, data, row_groups=max(1, world_size() // sharing))
    found, lines = plan_memory(config, gpu, plan, tokenizer)
    if args.json:
        print(as_json({**plan.to_dict(), "memory": found}))
        return 0
    files = [f"{config.output_dir}: {', '.join(plan.files)}"]
    print(_shown("\n".join([describe_plan(plan), _aligned("memory", lines), _aligned("files", files)])))
    return 0


def describe_given(config: SFTConfig) -> str:
    """Every option that somebody gave, with where, and how many keep their default."""
    given = _given(config)
    width = max(map(len, given), default=0)
    lines = [f"  {name:<{width}}  {shown(one['value'])}  ({one['origin']})" for name, one in given.items()]
    rest = len(config.origins) - len(given)
    return "\n".join(["configuration", *lines, f"  {rest} options keep their defaults; nothing was read or loaded"])


def _given(config: SFTConfig) -> dict[str, dict[str, Any]]:
    values = config.to_dict()
    return {
        name: {"value": values[name], "origin": origin}
        for name, origin in config.origins.items()
        if not origin.startswith("default")
    }


def plan_memory(config: SFTConfig, gpu: int | None, plan: Any, tokenizer: Any) -> tuple[dict[str, Any], list[str]]:
    """What a run needs beside what there is, and what would fit: as plain values and as lines.

    Args:
        gpu: bytes of a GPU to plan for. None: this machine's device.
        plan: None: rows of max_length tokens.
    """
    from sft.training.launch import quiet_libraries
    from sft.training.memory.check import find_fit
    from sft.training.memory.estimate import Unknown
    from sft.training.memory.place import find_place, imagined_gpu
    from sft.training.memory.proposals import describe_proposals
    from sft.training.memory.text import describe_fit
    from sft.training.strategy import asked_strategy

    quiet_libraries()
    place = find_place() if gpu is None else imagined_gpu(gpu)
    strategy = asked_strategy(config, on_cpu=not place.on_accelerator)
    try:
        fit, proposals = find_fit(config, strategy, place, plan=plan, tokenizer=tokenizer)
    except Unknown as unknown:
        return {"unknown": str(unknown)}, [f"not known beforehand for this model ({unknown})"]
    lines = describe_fit(fit) if fit.fits else [*describe_fit(fit), describe_proposals(proposals)]
    return {**fit.to_dict(), "proposals": [one.to_dict() for one in proposals]}, lines


def read_size(text: str) -> int:
    """'80GiB' or '24GB' as bytes.

    Raises:
        ConfigError: it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?B|)\s*", text, re.IGNORECASE)
    if found is None:
        raise ConfigError(
            f"--gpu_memory {text}: this is no size of a memory. Write a number and a unit, such as 80GiB."
        )
    return int(float(found[1]) * UNITS[found[2].upper()])


def _shown(text: str) -> str:
    """As the terminal has room for it."""
    text = plain(text)
    return folded(text, columns(sys.stdout)) if is_terminal(sys.stdout) else text


def _aligned(name: str, lines: list[str]) -> str:
    return "\n".join(f"  {name if number == 0 else '':<11}{line}" for number, line in enumerate(lines))
