"""How much memory a large file takes to prepare, how fast it goes, and that it goes on after `kill -9`.

    python benchmarks/large_file.py --data alpaca_data.json --tokenizer FOLDER [--gigabytes 5] [--folder DIR] [--json]

``--data`` is a JSON list of Alpaca rows, repeated as JSON lines until the file has its size. A process prepares
it and is killed without warning when a third of it is done; a second one goes on. Printed are the most memory of both
(VmHWM of Linux), the rows a second and how much the second one found done. Checked is that every repetition of the rows
became the same tokens and masks, so that nothing was lost, changed or counted twice. The file and what is made of it
need about two and a half times its size on disk, under ``--folder``, and are deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MAX_LENGTH = 512
KILLED_AT = 1 / 3


def write_large(data: Path, path: Path, size: int) -> tuple[int, int]:
    """Write the rows as JSON lines again and again; rows at a time, and how many times."""
    rows = [row for row in json.loads(data.read_text(encoding="utf-8")) if row["output"].strip()]
    block = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    times = -(-size // len(block))
    with path.open("wb") as file:
        for _ in range(times):
            file.write(block)
    return len(rows), times


def prepare_once(path: str, tokenizer: str, cache: str) -> dict[str, Any]:
    """Prepare the file in this process."""
    from transformers import AutoTokenizer

    from sft.config import SFTConfig
    from sft.data.prepare import prepare

    config = SFTConfig(data_path=path, max_length=MAX_LENGTH, cache_dir=cache, max_bad_rows=0)
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    started = time.perf_counter()
    prepared = prepare(config, loaded)
    seconds = time.perf_counter() - started
    report = prepared.train.report
    return {
        "seconds": seconds,
        "folder": str(prepared.cache.folder),
        "why": prepared.cache.why,
        "rows": report.rows,
        "examples": report.examples,
        "dropped": report.dropped.total(),
        "tokens": report.tokens,
        "peak": peak_memory(os.getpid()),
    }


def peak_memory(process: int) -> int:
    """Most bytes of memory that a process had so far."""
    with open(f"/proc/{process}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def start(path: Path, tokenizer: str, cache: str) -> subprocess.Popen[str]:
    """A process that prepares the file."""
    command = [sys.executable, __file__, "--prepare", str(path), "--tokenizer", tokenizer, "--folder", cache]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def rows_done(cache: str) -> int:
    """Rows that the journal of a stopped or running preparation has."""
    journals = list(Path(cache).glob("*.partial/train/journal.jsonl"))
    lines = journals[0].read_text(encoding="utf-8").splitlines() if journals else []
    return sum(json.loads(line)["read"]["rows"] for line in lines)


def kill_when(process: subprocess.Popen[str], cache: str, rows: int) -> dict[str, Any]:
    """Kill a process without warning when so many rows are done."""
    started = time.perf_counter()
    while rows_done(cache) < rows:
        if process.poll() is not None:
            sys.exit("it ended before it was to be killed")
        time.sleep(0.5)
    peak = peak_memory(process.pid)
    process.kill()
    process.communicate()
    return {"rows": rows_done(cache), "peak": peak, "seconds": time.perf_counter() - started}


def differing(folder: str, times: int) -> int:
    """How many repetitions of the rows are not the first one over again."""
    import numpy as np

    from sft.data.store import ExampleStore

    store = ExampleStore(Path(folder))
    each = len(store) // times
    if each * times != len(store):
        return times
    first, wrong = slice(0, store.offsets[each]), 0
    ids, mask = np.load(f"{folder}/ids.npy", mmap_mode="r"), np.load(f"{folder}/mask.npy", mmap_mode="r")
    for number in range(1, times):
        here = slice(store.offsets[number * each], store.offsets[(number + 1) * each])
        wrong += not (np.array_equal(ids[here], ids[first]) and np.array_equal(mask[here], mask[first]))
    return wrong


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--gigabytes", type=float, default=5)
    parser.add_argument("--folder")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--prepare", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.prepare:
        print(json.dumps(prepare_once(args.prepare, args.tokenizer, args.folder)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "large.jsonl"
        each, times = write_large(args.data, path, int(args.gigabytes * 1e9))
        rows, size = each * times, path.stat().st_size
        cache = f"{folder}/cache"
        killed = kill_when(start(path, args.tokenizer, cache), cache, int(rows * KILLED_AT))
        whole = json.loads(start(path, args.tokenizer, cache).communicate()[0].splitlines()[-1])
        wrong = differing(f"{whole['folder']}/train", times)
        if wrong or whole["rows"] != rows:
            sys.exit(f"{wrong} of {times} repetitions differ; {whole['rows']} rows counted, {rows} written")
    speed = (rows - killed["rows"]) / whole["seconds"]
    result = {"bytes": size, "rows": rows, "killed": killed, "gone on": whole, "rows_per_second": speed}
    if args.json:
        print(json.dumps(result))
        return
    print(
        f"{size / 1e9:.2f} GB, {rows:,} rows ({each:,} rows {times} times), {whole['tokens']:,} tokens\n"
        f"killed after {killed['rows']:,} rows, {killed['seconds']:.0f} s from the start of the process; "
        f"memory at most {killed['peak'] / 1e6:,.0f} MB\n"
        f"gone on to the end in {whole['seconds']:.0f} s, {speed:,.0f} rows a second; "
        f"memory at most {whole['peak'] / 1e6:,.0f} MB ({whole['why']})\n"
        f"all {times} repetitions became the same tokens and masks"
    )


if __name__ == "__main__":
    main()
