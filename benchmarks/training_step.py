"""How fast a training step is on a CPU: ours and that of other programs, in tokens that are no padding per second.

    python benchmarks/training_step.py --data alpaca_data.json [--parts full bf16 lora] [--rounds N] [--steps N]

``--data`` is a JSON list of Alpaca rows; 4,000 of them are taken. The model has Qwen3's architecture, 8 layers of width
256 and random float32 weights; its tokenizer of 32,000 entries is trained on the rows. All programs train the same
weights on the same rows in batches of 8 rows of at most 512 tokens with AdamW, without gradient checkpointing, answers
only; ours packs its rows, as does LLaMA-Factory's neat packing. The order of rows differs, so that losses can agree in
their course only: the first loss of all of them must be within 1 % of ours, else the table says which is not.
``lora`` trains an adapter of rank 16 on every linear layer instead of all weights, ``bf16`` computes in bfloat16. Two
steps warm up. Other programs run where ``benchmarks/peers.py`` made them an environment.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from chats import MAX_LENGTH
from rounds import OURS, Contestant, Result, publish, report, run_alone, take_turns
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


def measure_llama_factory(folder: Path, steps: int, out: str, *, bf16: bool, lora: bool) -> Figures:
    """Padded rows, its default."""
    from contestants.llama_factory import measure_training

    return measure_training(folder, steps, out, bf16=bf16, lora=lora, packed=False)


def measure_neat_packing(folder: Path, steps: int, out: str, *, bf16: bool, lora: bool) -> Figures:
    """LLaMA-Factory's packing without mixing."""
    from contestants.llama_factory import measure_training

    return measure_training(folder, steps, out, bf16=bf16, lora=lora, packed=True)


def measure_axolotl(folder: Path, steps: int, out: str, *, bf16: bool, lora: bool) -> Figures:
    from contestants.axolotl import measure_training

    return measure_training(folder, steps, out, bf16=bf16, lora=lora)


def measure_ms_swift(folder: Path, steps: int, out: str, *, bf16: bool, lora: bool) -> Figures:
    from contestants.ms_swift import measure_training

    return measure_training(folder, steps, out, bf16=bf16, lora=lora)


CONTESTANTS: dict[str, tuple[str | None, Callable[..., Figures]]] = {
    "ours": (None, measure_ours),
    "TRL": ("trl", measure_trl),
    "LLaMA-Factory": ("llama-factory", measure_llama_factory),
    "LLaMA-Factory, neat packing": ("llama-factory", measure_neat_packing),
    "axolotl": ("axolotl", measure_axolotl),
    "ms-swift": ("ms-swift", measure_ms_swift),
}

PARTS = {
    "full": ("Full fine-tuning, float32", [], list(CONTESTANTS)),
    "bf16": ("Full fine-tuning, bfloat16", ["--precision", "bf16"], ["ours", "TRL"]),
    "lora": ("LoRA, float32", ["--lora"], ["ours", "TRL"]),
}
"""Part -> its title, words for its measurements, who takes part."""


def first_losses(result: Result) -> dict[str, str]:
    """Contestants whose first loss is not ours, by more than 1 %: each step has other rows."""
    first = {name: found[0]["losses"][0] for name, found in result["measured"].items()}
    if "ours" not in first:
        return {}
    return {
        name: f"first loss {loss:.3f}, ours {first['ours']:.3f}"
        for name, loss in first.items()
        if abs(loss / first["ours"] - 1) > 0.01
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help=argparse.SUPPRESS)
    parser.add_argument("--lora", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", choices=CONTESTANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        peer, measure = CONTESTANTS[args.measure]
        with tempfile.TemporaryDirectory() as out:
            figures = measure(args.data, args.steps, out, bf16=args.precision == "bf16", lora=args.lora)
        report(figures, Contestant(args.measure, peer).packages if peer else OURS)
        return
    with tempfile.TemporaryDirectory() as folder:
        make_work(args.data, Path(folder))
        done: dict[str, Result] = {}
        for part in args.parts:
            title, words, names = PARTS[part]
            words = [*words, "--data", folder, "--steps", str(args.steps)]

            def keep(result: Result, title: str = title) -> None:
                done[title] = result | {"disagree": first_losses(result)}
                publish("training_step", about={"steps": args.steps}, parts=done)

            take_turns(
                [Contestant(name, CONTESTANTS[name][0]) for name in names],
                lambda one, words=words: run_alone(one, __file__, words),
                rounds=args.rounds,
                after_round=keep,
            )


if __name__ == "__main__":
    main()
