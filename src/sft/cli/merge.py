"""`sft merge --base_model M --adapter_path A --output_path O`: an adapter becomes part of its base model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sft.cli.gguf_option import add_gguf
from sft.errors import ConfigError
from sft.terminal.plain import as_json, plain
from sft.terminal.screen import changes_in_place

if TYPE_CHECKING:
    from sft.export.merge_result import MergeResult

HELP = "merge an adapter into its base model, and compare the two"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    parser.add_argument("--adapter_path", required=True, metavar="A", help="folder (or hub name) of the adapter")
    parser.add_argument("--output_path", required=True, metavar="O", help="folder of the merged model; new or empty")
    parser.add_argument(
        "--base_model", metavar="M", help="folder or hub name of the base model; unset: the one the adapter names"
    )
    parser.add_argument("--base_revision", help="branch, tag or commit of the base model on the hub")
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        help="precision of the written weights; unset: the base model's own",
    )
    parser.add_argument(
        "--max_shard_size", default="5GB", metavar="SIZE", help="most bytes in one weight file (2GB, 500MB); unset: 5GB"
    )
    parser.add_argument(
        "--max_difference",
        type=float,
        help="largest logit difference to the adapter that is accepted; unset: 1e-4 (or 1e-5 of the largest logit, "
        "where that is more) in float32, 5%% of the largest logit in bfloat16, 1%% in float16",
    )
    parser.add_argument(
        "--check",
        choices=["auto", "logits", "layers"],
        default="auto",
        help="how the result is compared with the adapter. logits: both answer prompts, which takes the model in "
        "float32 in memory; layers: a sample of the layers as written, one by one; auto: logits where they fit",
    )
    parser.add_argument(
        "--base_weights",
        choices=["full", "rounded"],
        default="full",
        help="of an adapter that was trained over a base in 4 or 8 bits. full: merge into the base model's weights as "
        "they are; rounded: as they were held in training, so that the result is exactly what was trained",
    )
    parser.add_argument(
        "--trust_remote_code", action="store_true", help="run Python code that the base model brings along"
    )
    parser.add_argument(
        "--ollama", action="store_true", help="write a Modelfile too, so that `ollama create` takes the folder"
    )
    add_gguf(parser)
    parser.add_argument("--push_to_hub", action="store_true", help="upload the merged model when the check has passed")
    parser.add_argument("--hub_model_id", metavar="OWNER/NAME", help="where to upload it")
    parser.add_argument("--hub_private", action="store_true", help="create the repository as a private one")
    parser.add_argument("--json", action="store_true", help="print the result as one object")


def run(args: argparse.Namespace) -> int:
    """Merge, say how far the result is from the adapter, and upload it if asked."""
    if args.push_to_hub and not args.hub_model_id:
        raise ConfigError("--push_to_hub needs the name of the repository: --hub_model_id OWNER/NAME.")
    from transformers.utils import logging

    from sft.export.gguf import find_converter
    from sft.export.hub import check_name
    from sft.export.merge import merge_adapter
    from sft.export.ollama_file import hand_over

    if args.push_to_hub:
        check_name(args.hub_model_id)

    converter = find_converter() if args.gguf else None

    if args.json or not changes_in_place(sys.stderr):
        logging.disable_progress_bar()
    result = merge_adapter(
        base_model=args.base_model,
        adapter_path=args.adapter_path,
        output_path=args.output_path,
        dtype=args.dtype,
        base_revision=args.base_revision,
        trust_remote_code=args.trust_remote_code,
        max_difference=args.max_difference,
        max_shard_size=args.max_shard_size,
        check=args.check,
        base_weights=args.base_weights,
    )
    notes = list(result.notes)
    if args.ollama or args.gguf:
        notes += hand_over(result.path, gguf=args.gguf, converter=converter, trust_remote_code=args.trust_remote_code)
    address = _push(args) if args.push_to_hub else None
    if args.json:
        print(as_json({**result.to_dict(), "notes": notes, "hub": address}))
    else:
        print(plain("\n".join([*_describe(result, notes, address), f"try it: sft chat --model {args.output_path}"])))
    return 0


def _describe(result: MergeResult, notes: Sequence[str], address: str | None) -> list[str]:
    """Lines for people."""
    lines = [f"note: {note}" for note in notes]
    lines.append("merged model, as written, against adapter")
    lines += [f"  {name:<22}{figure}" for name, figure in result.agreement()]
    if result.memory() is not None:
        lines.append(f"peak memory of the merge: {result.memory()}")
    lines.append(f"saved: {result.path}  ({result.dtype})")
    if address is not None:
        lines.append(f"uploaded: {address}")
    return lines


def _push(args: argparse.Namespace) -> str:
    from pathlib import Path

    from sft.export.hub import push_folder

    return push_folder(Path(args.output_path).expanduser(), args.hub_model_id, private=args.hub_private)
