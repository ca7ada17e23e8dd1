"""How fast a training step is on a CPU: ours and TRL's, in tokens that are no padding per second.

    python benchmarks/training_step.py --data alpaca_data.json [--precision bf16] [--lora] [--rounds N] [--steps N]

``--data`` is a JSON list of Alpaca rows; 4,000 of them are taken. The model has Qwen3's architecture, 8 layers of width
256 and random float32 weights; its tokenizer of 32,000 entries is trained on the rows. Both programs train the same
weights on the same rows in batches of 8 rows of at most 512 tokens with AdamW, without gradient checkpointing, answers
only; ours packs its rows, TRL's default does not. The order of rows differs, so that losses can agree in their course
only; they are printed. ``--lora`` trains an adapter of rank 16 on every linear layer instead of all weights,
``--precision bf16`` computes in bfloat16. Each measurement is a process of its own; two steps warm up. Needs the extra
``bench`` (TRL).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from preparation import MAX_LENGTH
from training_work import LORA_ALPHA, LORA_RANK, SETTINGS, WARM_UP, Figures, make_work, measure_trainer


def measure_ours(folder: Path, steps: int, out: str, *, bf16: bool, lora: bool) -> Figures:
    """As `sft train --packing` trains."""
    from sft.config import SFTConfig
    from sft.training.run import assemble

    adapter = {"use_lora": True, "lora_r": LORA_RANK, "lora_alpha": LORA_ALPHA, "lora_dropout": 0.0} if lora else {}
    config = SFTConfig(
        model_name_or_path=str(folder / "model"),
        data_path=str(folder / "chats.jsonl"),
        max_length=MAX_LENGTH,
        packing=True,
        bf16=bf16,
        max_steps=WARM_UP + steps,
        output_dir=out,
        cache_dir=out,
        **SETTINGS,
        **adapter,
    )
    return measure_trainer(assemble(config).trainer, steps, count=lambda batch: int(batch["num_tokens"]))


def measure_trl(folder: Path, steps: int, out: str, *, bf16: bool, lora: bool) -> Figures:
    """As ``SFTTrainer`` trains by default, answers only, without gradient checkpointing."""
    import datasets
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    args = SFTConfig(
        output_dir=out,
        assistant_only_loss=True,
        max_length=MAX_LENGTH,
        gradient_checkpointing=False,
        max_steps=WARM_UP + steps,
        use_cpu=True,
        bf16=bf16,
        report_to="none",
        disable_tqdm=True,
        **SETTINGS,
    )
    adapter = LoraConfig(
        r=LORA_RANK, lora_alpha=LORA_ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    dtype = "bfloat16" if bf16 and lora else "float32"
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype),
        args=args,
        train_dataset=datasets.load_dataset(
            "json", data_files=str(folder / "chats.jsonl"), split="train", cache_dir=out
        ),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        peft_config=adapter if lora else None,
    )
    return measure_trainer(trainer, steps, count=lambda batch: int(batch["attention_mask"].sum()))


CONTESTANTS = {"ours": measure_ours, "TRL": measure_trl}


def run_alone(name: str, folder: Path, args: argparse.Namespace) -> Figures:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--measure", name, "--data", str(folder), "--steps", str(args.steps)]
    command += ["--precision", args.precision, *(["--lora"] if args.lora else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", choices=CONTESTANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        with tempfile.TemporaryDirectory() as out:
            measure = CONTESTANTS[args.measure]
            print(json.dumps(measure(args.data, args.steps, out, bf16=args.precision == "bf16", lora=args.lora)))
        return
    measured: dict[str, list[Figures]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory() as folder:
        make_work(args.data, Path(folder))
        for _ in range(args.rounds):
            for name, found in measured.items():
                found.append(run_alone(name, Path(folder), args))
    if args.json:
        print(json.dumps(measured))
        return
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl")))
    print(f"{'LoRA' if args.lora else 'full'}, {args.precision}")
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
