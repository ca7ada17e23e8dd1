"""Training on one GPU: ours, plain Trainer, TRL with packing, TRL with Liger's kernels, Unsloth.

    python benchmarks/on_gpu.py [--shapes 0.6B ..] [--lists alpaca ..] [--methods full lora] [--contestants ours ..]
                                [--python 'Unsloth=/path/to/python'] [--checkpointing] [--smoke]

First what the GPU can do at best, then each contestant in a process of its own, and one row of results/gpu.jsonl after
each, so that nothing measured is lost. The order is that of ``PLAN``: small models first, then 8B. A contestant that
fails leaves a row with the reason. ``--smoke`` takes two steps of a tiny model, on a CPU too, and writes to the screen
alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gpu.contestants import CONTESTANTS, Job
from gpu.rows import LISTS, write_rows
from gpu.shapes import SHAPES
from gpu.table import RESULTS
from rounds import versions_of

PLAN = (
    ("0.6B", "full", "alpaca"),
    ("0.6B", "lora", "alpaca"),
    ("0.6B", "full", "mixed"),
    ("0.6B", "lora", "mixed"),
    ("1.7B", "full", "mixed"),
    ("8B", "lora", "mixed"),
    ("8B", "lora", "long16k"),
    ("8B", "lora", "long32k"),
    ("8B", "full", "mixed"),
)
"""Shape, method and list, most wanted first."""

PACKAGES = ("sft-kit", "trl", "unsloth", "liger_kernel", "transformers", "peft", "torch")
TIMEOUT = 540


def make_model(shape_name: str, folder: Path) -> None:
    """Random weights, and a tokenizer that has a name for every id, in a folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    special = ["<|endoftext|>", "<|im_end|>"]
    others = (f"t{number}" for number in range(len(special), SHAPES[shape_name].vocabulary))
    words = {word: number for number, word in enumerate([*special, *others])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    torch.manual_seed(0)
    on_gpu = torch.cuda.is_available()
    with torch.device("cuda" if on_gpu else "cpu"):
        model = Qwen3ForCausalLM(Qwen3Config(**SHAPES[shape_name].config(), eos_token_id=1, pad_token_id=0))
    model.to(torch.bfloat16 if on_gpu else torch.float32).save_pretrained(folder)
    fast.save_pretrained(folder)


def measure(args: argparse.Namespace) -> None:
    """Inside a contestant's process: one line of JSON."""
    import torch
    from gpu.measure import PROFILED, TIMED, WARM_UP, measure_trainer

    counts = (1, 1, 0) if args.smoke else (WARM_UP, TIMED, PROFILED)
    with tempfile.TemporaryDirectory() as out:
        job = Job(
            model=Path(args.model),
            rows=Path(args.rows),
            row_list=args.lists[0],
            lora=args.methods == ["lora"],
            steps=sum(counts),
            checkpointing=args.checkpointing,
            on_gpu=torch.cuda.is_available(),
            out=f"{out}/run",
        )
        trainer = CONTESTANTS[args.measure](job)
        warm_up, timed, profiled = counts
        figures = measure_trainer(trainer, warm_up=warm_up, timed=timed, profiled=profiled)
    print(json.dumps(figures | {"versions": versions_of(PACKAGES)}))


def run_one(name: str, shape: str, method: str, row_list: str, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One contestant's row, with the reason where it failed."""
    row = {"contestant": name, "shape": shape, "method": method, "list": row_list, "checkpointing": args.checkpointing}
    pythons = dict(entry.split("=", 1) for entry in args.python)
    command = [pythons.get(name, sys.executable), __file__, "--measure", name, "--lists", row_list, "--methods", method]
    command += ["--model", str(work / shape), "--rows", str(work / f"{row_list}.jsonl")]
    command += [flag for flag, given in (("--smoke", args.smoke), ("--checkpointing", args.checkpointing)) if given]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "TRANSFORMERS_VERBOSITY": "error"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT, env=offline)
    except subprocess.TimeoutExpired:
        return row | {"problem": f"not done after {TIMEOUT} s"}
    if done.returncode:
        said = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["nothing was said"]
        return row | {"problem": said[-1].strip()[:160]}
    return row | json.loads(done.stdout.splitlines()[-1])


def keep(row: dict[str, Any], *, smoke: bool) -> None:
    """Write a row at once; a smoke run only shows it."""
    row = {"date": datetime.now(timezone.utc).strftime("%Y-%m-%d"), **row}
    print(json.dumps(row), flush=True)
    if not smoke:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def main() -> None:
    """Go through the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES)
    parser.add_argument("--lists", nargs="+", choices=LISTS)
    parser.add_argument("--methods", nargs="+", choices=["full", "lora"])
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--python", nargs="*", default=[], metavar="NAME=PATH", help="another environment's Python")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing, for all")
    parser.add_argument("--smoke", action="store_true")
    for hidden in ("--measure", "--model", "--rows"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args)
        return
    import torch

    if not torch.cuda.is_available() and not args.smoke:
        sys.exit("no GPU here, and the figures of a CPU would say nothing; --smoke tries everything out")
    plan = (("tiny", "full", "smoke"), ("tiny", "lora", "smoke")) if args.smoke else PLAN
    chosen = [
        (shape, method, row_list)
        for shape, method, row_list in plan
        if (not args.shapes or shape in args.shapes)
        and (not args.methods or method in args.methods)
        and (not args.lists or row_list in args.lists)
    ]
    if torch.cuda.is_available():
        from gpu.measure import ceilings

        keep({"device": torch.cuda.get_device_name(0), **ceilings()}, smoke=args.smoke)
        torch.cuda.empty_cache()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for shape, method, row_list in chosen:
            if not (work / shape).exists():
                make_model(shape, work / shape)
            if not (work / f"{row_list}.jsonl").exists():
                write_rows(row_list, SHAPES[shape].vocabulary, work / f"{row_list}.jsonl")
            for name in args.contestants:
                keep(run_one(name, shape, method, row_list, work, args), smoke=args.smoke)


if __name__ == "__main__":
    main()
