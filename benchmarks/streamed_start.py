"""Seconds from the command to the first optimizer step on rows that were never prepared, with and without streaming.

    python benchmarks/streamed_start.py --data alpaca_data.json [--rows 500000] [--rounds 3] [--json]

Alpaca rows, repeated as JSON lines, packed to 512 tokens; a model of 12 million weights; an empty cache for every run.
The two commands differ in ``--stream_preparation`` alone and take turns. Both are ended after their first step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from rounds import environment
from training_work import make_work

KINDS = {"prepared whole": False, "streamed": True}


def repeat_rows(chats: Path, path: Path, count: int) -> None:
    """Write so many rows, beginning again after the last."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(islice(cycle(chats.read_text(encoding="utf-8").splitlines(keepends=True)), count))


def seconds_to_first_step(folder: Path, *, streamed: bool) -> float:
    """One command, from its start to the line of its first step."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        options = {
            "model_name_or_path": folder / "model",
            "data_path": folder / "many.jsonl",
            "output_dir": f"{own}/run",
            "cache_dir": f"{own}/cache",
            "max_length": 512,
            "packing": True,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "max_steps": 100_000,
            "save_strategy": "no",
            "logging_steps": 1,
            "stream_preparation": streamed,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        started = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "sft", "train", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment() | {"PYTHONUNBUFFERED": "1"},
        ) as process:
            said = []
            for line in process.stdout or ():
                said.append(line)
                if line.startswith("step 1/"):
                    seconds = time.perf_counter() - started
                    process.kill()
                    return seconds
        sys.exit("".join(said[-20:]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_work(args.data, folder, rows=sys.maxsize)
        repeat_rows(folder / "chats.jsonl", folder / "many.jsonl", args.rows)
        for _ in range(args.rounds):
            for kind, streamed in KINDS.items():
                found[kind].append(seconds_to_first_step(folder, streamed=streamed))
    if args.json:
        print(json.dumps({"rows": args.rows, "seconds": found}))
        return
    print(f"{args.rows:,} rows, never prepared; seconds from the command to the first optimizer step")
    for kind, seconds in found.items():
        print(f"{kind:<16}{statistics.median(seconds):7.1f}   ({min(seconds):.1f} to {max(seconds):.1f})")


if __name__ == "__main__":
    main()
