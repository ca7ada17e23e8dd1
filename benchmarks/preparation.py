"""How long data preparation takes: from JSON lines on disk to packed rows of tokens and masks, ours and TRL's.

    python benchmarks/preparation.py --data alpaca_data.json --tokenizer FOLDER [--rounds N] [--json]

``--data`` is a JSON list of Alpaca rows; ``--tokenizer`` a folder of a tokenizer. Rows without an answer and rows of
more than 512 tokens are left out beforehand, for the programs treat them differently; so both must arrive at the same
number of tokens and of trained tokens, else nothing is printed but the difference. Each measurement is a process of its
own, with empty caches, and counts from reading the file to the packed rows; imports and the loading of the tokenizer
are left out, on both sides. Contestants take turns. Needs the extra ``bench`` (TRL).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

MAX_LENGTH = 512
MARKED_CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' %}{%- generation %}{{- message.content + '<|im_end|>' }}{%- endgeneration %}"
    "{%- else %}{{- message.content + '<|im_end|>' }}{%- endif %}{{- '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)

Figures = dict[str, Any]


def load_tokenizer(folder: str) -> Any:
    """The tokenizer with a template that both programs can mask."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = MARKED_CHATML
    return tokenizer


def write_chats(data: Path, tokenizer: Any, path: Path) -> int:
    """Alpaca rows that both programs use whole, as chat messages; how many they are."""
    chats = []
    for row in json.loads(data.read_text(encoding="utf-8")):
        if row["output"].strip():
            question = "\n".join(filter(None, (row["instruction"], row["input"])))
            chats.append([{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}])
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    lengths = [len(encoding.ids) for encoding in tokenizer.backend_tokenizer.encode_batch(texts)]
    kept = [chat for chat, length in zip(chats, lengths, strict=True) if length <= MAX_LENGTH]
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in kept), encoding="utf-8")
    return len(kept)


def measure_ours(path: str, folder: str, cache: str) -> Figures:
    """As `sft train` prepares, twice: the second time everything is found in the cache."""
    from sft.config import SFTConfig
    from sft.data.packing import pack_examples
    from sft.data.prepare import prepare

    config = SFTConfig(data_path=path, max_length=MAX_LENGTH, cache_dir=cache, packing=True)
    seconds = []
    for _ in range(2):
        tokenizer = load_tokenizer(folder)
        started = time.perf_counter()
        part = prepare(config, tokenizer, quiet=True).train
        packs = pack_examples(part.examples.lengths, MAX_LENGTH)
        seconds.append(time.perf_counter() - started)
    report = part.report
    return {
        "seconds": seconds[0],
        "again": seconds[1],
        "tokens": report.tokens,
        "trained": report.trained_tokens,
        "packed_rows": len(packs),
    }


def measure_trl(path: str, folder: str, cache: str, processes: int) -> Figures:
    """As ``SFTTrainer`` prepares what it is given, by its public interface; the model is tiny and made beforehand."""
    os.environ["HF_DATASETS_CACHE"] = cache
    import datasets
    from transformers import Qwen3Config, Qwen3ForCausalLM
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(folder)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=16,
        )
    )
    started = time.perf_counter()
    rows = datasets.load_dataset("json", data_files=path, split="train")
    args = SFTConfig(
        output_dir=cache,
        assistant_only_loss=True,
        max_length=MAX_LENGTH,
        packing=True,
        dataset_num_proc=None if processes == 1 else processes,
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    trainer = SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
    seconds = time.perf_counter() - started
    packed = trainer.train_dataset
    column, untrained = ("assistant_masks", 0) if "assistant_masks" in packed.column_names else ("labels", -100)
    counted = [
        (len(row["input_ids"]), sum(value != untrained for value in row[column])) for row in packed.with_format(None)
    ]
    return {
        "seconds": seconds,
        "tokens": sum(tokens for tokens, _ in counted),
        "trained": sum(trained for _, trained in counted),
        "packed_rows": len(counted),
    }


CONTESTANTS: dict[str, Callable[[str, str, str], Figures]] = {
    "ours": measure_ours,
    "TRL": lambda path, folder, cache: measure_trl(path, folder, cache, 1),
    "TRL, 2 processes": lambda path, folder, cache: measure_trl(path, folder, cache, 2),
}


def run_alone(name: str, path: Path, folder: str) -> Figures:
    """One measurement in a process of its own, with empty caches."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--measure", name, "--data", str(path), "--tokenizer", folder]
        done = subprocess.run([*command, "--cache", cache], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(path: Path, folder: str, rows: int, rounds: int) -> dict[str, Figures]:
    """All contestants in turn, every round."""
    measured: dict[str, list[Figures]] = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        for name, found in measured.items():
            found.append(run_alone(name, path, folder))
    counts = {name: (found[0]["tokens"], found[0]["trained"]) for name, found in measured.items()}
    if len(set(counts.values())) > 1:
        sys.exit(f"tokens and trained tokens differ: {counts}")
    result: dict[str, Figures] = {}
    for name, found in measured.items():
        seconds = [figures["seconds"] for figures in found]
        result[name] = {
            **found[0],
            "seconds": statistics.median(seconds),
            "fastest": min(seconds),
            "slowest": max(seconds),
            "rows_per_second": rows / statistics.median(seconds),
        }
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(CONTESTANTS[args.measure](str(args.data), args.tokenizer, args.cache)))
        return
    with tempfile.TemporaryDirectory() as folder:
        chats = Path(folder) / "chats.jsonl"
        rows = write_chats(args.data, load_tokenizer(args.tokenizer), chats)
        result = compare(chats, args.tokenizer, rows, args.rounds)
    if args.json:
        print(json.dumps({"rows": rows, **result}))
        return
    ours = result["ours"]
    used = ("trl", "transformers", "datasets", "tokenizers", "tiktoken")
    versions = ", ".join(f"{name} {version(name)}" for name in used)
    print(
        f"{rows:,} rows, {ours['tokens']:,} tokens, {ours['trained']:,} of them trained; "
        f"{os.cpu_count()} cores; {versions}"
    )
    for name, figures in result.items():
        print(
            f"{name:<18}{figures['seconds']:8.2f} s  ({figures['fastest']:.2f} to {figures['slowest']:.2f})"
            f"{figures['rows_per_second']:10,.0f} rows/s{figures['packed_rows']:8,} packed rows"
            f"{figures['seconds'] / ours['seconds']:8.1f} times ours"
        )
    print(f"ours, found in the cache: {ours['again']:.3f} s")


if __name__ == "__main__":
    main()
