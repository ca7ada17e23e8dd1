"""How long data preparation takes: from JSON lines on disk to packed rows of tokens and masks, ours and that of others.

    python benchmarks/preparation.py --data alpaca_data.json --tokenizer FOLDER [--rounds N]

``--data`` is a JSON list of Alpaca rows; ``--tokenizer`` a folder of a tokenizer. Rows without an answer and rows of
more than 512 tokens are left out beforehand, for the programs treat them differently; so all must arrive at the same
number of tokens and of trained tokens, else the table says who did not. (LLaMA-Factory trains the line break after an
answer too: one token a row more.) Each measurement is a process of its own, with empty caches, and counts from reading
the file to the packed rows; imports and the loading of the tokenizer are left out. Then it is done once more in the
same process, everything being in the program's own cache. Contestants take turns; other programs run where
``benchmarks/peers.py`` made them an environment.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chats import MAX_LENGTH, load_tokenizer
from rounds import Contestant, Result, publish, report, run_alone, take_turns

Figures = dict[str, Any]


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
    times = []
    for _ in range(2):
        started = time.perf_counter()
        rows = datasets.load_dataset("json", data_files=path, split="train")
        trainer = SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
        times.append(time.perf_counter() - started)
    packed = trainer.train_dataset
    column, untrained = ("assistant_masks", 0) if "assistant_masks" in packed.column_names else ("labels", -100)
    counted = [
        (len(row["input_ids"]), sum(value != untrained for value in row[column])) for row in packed.with_format(None)
    ]
    return {
        "seconds": times[0],
        "again": times[1],
        "tokens": sum(tokens for tokens, _ in counted),
        "trained": sum(trained for _, trained in counted),
        "packed_rows": len(counted),
    }


def measure_llama_factory(path: str, folder: str, cache: str, workers: int) -> Figures:
    """The tokenizer's template has to lie in the folder, for LLaMA-Factory reads it from there."""
    from contestants.llama_factory import measure_preparation

    with tempfile.TemporaryDirectory() as marked:
        load_tokenizer(folder).save_pretrained(marked)
        return measure_preparation(path, marked, cache, workers)


CONTESTANTS: dict[str, tuple[str | None, Callable[[str, str, str], Figures]]] = {
    "ours": (None, measure_ours),
    "TRL": ("trl", lambda path, folder, cache: measure_trl(path, folder, cache, 1)),
    "TRL, 2 processes": ("trl", lambda path, folder, cache: measure_trl(path, folder, cache, 2)),
    "LLaMA-Factory": ("llama-factory", lambda path, folder, cache: measure_llama_factory(path, folder, cache, 1)),
    "LLaMA-Factory, 2 workers": (
        "llama-factory",
        lambda path, folder, cache: measure_llama_factory(path, folder, cache, 2),
    ),
}


def disagreements(result: Result, rows: int) -> dict[str, str]:
    """Who arrived at other numbers of tokens than ours."""
    counts = {name: (found[0]["tokens"], found[0]["trained"]) for name, found in result["measured"].items()}
    if "ours" not in counts:
        return {}
    tokens, trained = counts["ours"]
    return {
        name: f"{found[0]:,} tokens, {found[1]:,} trained; ours {tokens:,} and {trained:,}"
        for name, found in counts.items()
        if found[0] != tokens or found[1] not in (trained, trained + rows * name.startswith("LLaMA-Factory"))
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--tokenizer", required=True, type=os.path.abspath)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--measure", choices=CONTESTANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        peer, measure = CONTESTANTS[args.measure]
        with tempfile.TemporaryDirectory() as cache:
            report(measure(str(args.data), args.tokenizer, cache), Contestant(args.measure, peer).packages)
        return
    with tempfile.TemporaryDirectory() as folder:
        chats = Path(folder) / "chats.jsonl"
        rows = write_chats(args.data, load_tokenizer(args.tokenizer), chats)

        def keep(result: Result) -> None:
            parts = {"JSON lines to packed rows": result | {"disagree": disagreements(result, rows)}}
            publish("preparation", about={"rows": rows, "max_length": MAX_LENGTH}, parts=parts)

        take_turns(
            [Contestant(name, CONTESTANTS[name][0]) for name in args.only],
            lambda one: run_alone(one, __file__, ["--data", str(chats), "--tokenizer", args.tokenizer]),
            rounds=args.rounds,
            after_round=keep,
        )


if __name__ == "__main__":
    main()
