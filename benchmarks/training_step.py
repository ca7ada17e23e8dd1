"""How fast a step of full fine-tuning is on a CPU: ours and TRL's, in tokens that are no padding per second.

    python benchmarks/training_step.py --data alpaca_data.json [--rounds N] [--steps N] [--json]

``--data`` is a JSON list of Alpaca rows; 4,000 of them are taken. The model has Qwen3's architecture, 8 layers of width
256 and random float32 weights; its tokenizer of 32,000 entries is trained on the rows. Both programs train the same
weights on the same rows in batches of 8 rows of at most 512 tokens with AdamW, without gradient checkpointing, answers
only; ours packs its rows, TRL's default does not. The order of rows differs, so that losses can agree in their course
only; they are printed. Each measurement is a process of its own; two steps warm up. Needs the extra ``bench`` (TRL).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from preparation import MARKED_CHATML, MAX_LENGTH

BATCH = 8
WARM_UP = 2
ROWS = 4000
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

Figures = dict[str, Any]


def make_work(data: Path, folder: Path) -> None:
    """Rows, tokenizer and model, for both programs."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    rows = [row for row in json.loads(data.read_text(encoding="utf-8")) if row["output"].strip()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=32000,
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"{row['instruction']}\n{row['output']}" for row in rows), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = MARKED_CHATML
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(fast),
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            tie_word_embeddings=True,
            eos_token_id=fast.eos_token_id,
            pad_token_id=fast.pad_token_id,
        )
    )
    model.save_pretrained(folder / "model")
    fast.save_pretrained(folder / "model")
    chats = []
    for row in rows[:ROWS]:
        question = "\n".join(filter(None, (row["instruction"], row["input"])))
        chats.append([{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}])
    lines = "".join(json.dumps({"messages": chat}) + "\n" for chat in chats)
    (folder / "chats.jsonl").write_text(lines, encoding="utf-8")


class Clock:
    """Counts the tokens of batches as they are collated, and notes when steps end."""

    def __init__(self, collate: Callable[[Any], Any], count: Callable[[Any], int]) -> None:
        self.collate, self.count = collate, count
        self.tokens: list[int] = []
        self.ends: list[float] = []

    def __call__(self, rows: Any) -> Any:
        batch = self.collate(rows)
        self.tokens.append(self.count(batch))
        return batch

    def figures(self, losses: list[float], steps: int) -> Figures:
        seconds = self.ends[-1] - self.ends[WARM_UP - 1]
        tokens = self.tokens[WARM_UP : WARM_UP + steps]
        return {"tokens_per_second": sum(tokens) / seconds, "step_seconds": seconds / steps, "losses": losses}


def time_steps(clock: Clock) -> Any:
    """A callback that notes when a step ends."""
    from transformers import TrainerCallback

    class Ends(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.ends.append(time.perf_counter())

    return Ends()


def measure_ours(folder: Path, steps: int, out: str) -> Figures:
    """As `sft train --packing` trains."""
    from sft.config import SFTConfig
    from sft.training.run import assemble

    config = SFTConfig(
        model_name_or_path=str(folder / "model"),
        data_path=str(folder / "chats.jsonl"),
        max_length=MAX_LENGTH,
        packing=True,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=1,
        max_steps=WARM_UP + steps,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        warmup_steps=0,
        save_strategy="no",
        logging_steps=1,
        output_dir=out,
        cache_dir=out,
    )
    trainer = assemble(config).trainer
    clock = Clock(trainer.data_collator, lambda batch: int(batch["num_tokens"]))
    trainer.data_collator = clock
    trainer.add_callback(time_steps(clock))
    trainer.train()
    return clock.figures([entry["loss"] for entry in trainer.state.log_history if "loss" in entry], steps)


def measure_trl(folder: Path, steps: int, out: str) -> Figures:
    """As ``SFTTrainer`` trains by default, answers only, without gradient checkpointing."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    args = SFTConfig(
        output_dir=out,
        assistant_only_loss=True,
        max_length=MAX_LENGTH,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,
        max_steps=WARM_UP + steps,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        warmup_steps=0,
        save_strategy="no",
        logging_steps=1,
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype="float32"),
        args=args,
        train_dataset=datasets.load_dataset(
            "json", data_files=str(folder / "chats.jsonl"), split="train", cache_dir=out
        ),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
    )
    clock = Clock(trainer.data_collator, lambda batch: int(batch["attention_mask"].sum()))
    trainer.data_collator = clock
    trainer.add_callback(time_steps(clock))
    trainer.train()
    return clock.figures([entry["loss"] for entry in trainer.state.log_history if "loss" in entry], steps)


CONTESTANTS = {"ours": measure_ours, "TRL": measure_trl}


def run_alone(name: str, folder: Path, steps: int) -> Figures:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--measure", name, "--data", str(folder), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", choices=CONTESTANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        with tempfile.TemporaryDirectory() as out:
            print(json.dumps(CONTESTANTS[args.measure](args.data, args.steps, out)))
        return
    measured: dict[str, list[Figures]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as folder:
        make_work(args.data, Path(folder))
        for _ in range(args.rounds):
            for name, found in measured.items():
                found.append(run_alone(name, Path(folder), args.steps))
    if args.json:
        print(json.dumps(measured))
        return
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl")))
    rates = {name: [figures["tokens_per_second"] for figures in found] for name, found in measured.items()}
    for name, found in measured.items():
        rate = statistics.median(rates[name])
        print(
            f"{name:<6}{rate:9,.0f} tokens/s ({min(rates[name]):,.0f} to {max(rates[name]):,.0f}), "
            f"{found[0]['step_seconds']:.2f} s a step, "
            f"loss {found[0]['losses'][0]:.2f} to {found[0]['losses'][-1]:.2f}; "
            f"ours is {statistics.median(rates['ours']) / rate:.1f} times as fast"
        )


if __name__ == "__main__":
    main()
