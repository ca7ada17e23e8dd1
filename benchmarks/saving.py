"""How long training stands still for a checkpoint, and how long a run takes to go on from one: ours and TRL's.

    python benchmarks/saving.py [--rounds N] [--megabytes N]

A random Qwen3 model of two layers, whose embedding makes it as large as asked (in float32, with Adam's two moments;
1,000 by default), takes 14 steps of one short row each and saves at steps 6 and 12. Standing still is the time from the
end of a step to the beginning of the next, less that of steps without a save. Going on is the time from ``train()`` to
the first step of a run that resumes at step 6, less that of one that begins. TRL saves as transformers' Trainer does.
Both go on to the same losses as the run that was not interrupted, else the table says who did not.
(``checkpoints.py`` compares the writing itself, within one process.)
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from chats import MARKED_CHATML
from rounds import Contestant, Figures, Result, publish, report, run_alone, take_turns

STEPS = 14
EVERY = 6
RESUME_AT = 6
HIDDEN = 512
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]


def make_work(folder: Path, megabytes: int) -> None:
    """Rows, a tokenizer of a few words, and a model of so many million bytes with its optimizer's."""
    import json

    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "user", "assistant", "\n"]
    words = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )  # fmt: skip
    fast.chat_template = MARKED_CHATML
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=max(len(fast), megabytes * 10**6 // 12 // HIDDEN),
            hidden_size=HIDDEN,
            intermediate_size=HIDDEN,
            num_hidden_layers=2,
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
    chats = [
        [
            {"role": "user", "content": WORDS[number % 8]},
            {"role": "assistant", "content": " ".join(WORDS[: number % 7 + 1])},
        ]
        for number in range(32)
    ]
    (folder / "chats.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))


def settings(out: str) -> dict[str, Any]:
    """By the names of transformers.TrainingArguments."""
    return {
        "output_dir": out,
        "max_steps": STEPS,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "save_strategy": "steps",
        "save_steps": EVERY,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "seed": 1,
    }


def our_trainer(folder: Path, out: str, *, resume: bool) -> Any:
    """As `sft train` makes it."""
    from sft.config import SFTConfig
    from sft.training.run import assemble

    more = {"resume_from_checkpoint": f"{out}/checkpoint-{RESUME_AT}"} if resume else {}
    model, data = str(folder / "model"), str(folder / "chats.jsonl")
    config = SFTConfig(model_name_or_path=model, data_path=data, cache_dir=f"{out}-cache", **settings(out), **more)
    return assemble(config).trainer


def trl_trainer(folder: Path, out: str, *, resume: bool) -> Any:
    """``SFTTrainer`` by default; where it resumes is told to ``train()``."""
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    args = SFTConfig(
        **settings(out), assistant_only_loss=True, use_cpu=True, bf16=False, gradient_checkpointing=False,
        report_to="none", disable_tqdm=True,
    )  # fmt: skip
    rows = datasets.load_dataset(
        "json", data_files=str(folder / "chats.jsonl"), split="train", cache_dir=f"{out}-cache"
    )
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype="float32")
    return SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)


def timed_run(trainer: Any, checkpoint: str | None) -> dict[str, Any]:
    """Train to the end; when steps began and ended, and the losses of steps."""
    from transformers import TrainerCallback

    begins: dict[int, float] = {}
    ends: dict[int, float] = {}

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            begins[state.global_step + 1] = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            ends[state.global_step] = time.perf_counter()

    trainer.add_callback(Watch())
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=checkpoint)
    gaps = {step: begins[step + 1] - ends[step] for step in ends if step + 1 in begins}
    losses = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    return {"to_first_step": min(begins.values()) - started, "gaps": gaps, "losses": losses}


def measure(make_trainer: Any, folder: Path, out: str) -> Figures:
    """A run that saves, and one that goes on from one of its checkpoints."""
    first = timed_run(make_trainer(folder, out, resume=False), None)
    saved = Path(out) / f"checkpoint-{RESUME_AT}"
    size = sum(file.stat().st_size for file in saved.rglob("*") if file.is_file())
    again = timed_run(make_trainer(folder, out, resume=True), str(saved))
    plain = statistics.median(gap for step, gap in first["gaps"].items() if step % EVERY)
    stalls = [first["gaps"][step] - plain for step in (EVERY, 2 * EVERY)]
    return {
        "first_stall": stalls[0],
        "later_stall": stalls[1],
        "restore": again["to_first_step"] - first["to_first_step"],
        "gigabytes": size / 1e9,
        "resumed_alike": all(
            abs(again["losses"][step] - first["losses"][step]) < 1e-5 for step in range(RESUME_AT + 1, STEPS + 1)
        ),
    }


CONTESTANTS: dict[str, tuple[str | None, Any]] = {"ours": (None, our_trainer), "TRL": ("trl", trl_trainer)}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--measure", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        peer, make_trainer = CONTESTANTS[args.measure]
        with tempfile.TemporaryDirectory() as out:
            report(measure(make_trainer, Path(args.work), f"{out}/run"), Contestant(args.measure, peer).packages)
        return
    with tempfile.TemporaryDirectory() as work:
        make_work(Path(work), args.megabytes)

        def keep(result: Result) -> None:
            wrong = [name for name, found in result["measured"].items() if not found[0]["resumed_alike"]]
            result["disagree"] = dict.fromkeys(wrong, "other losses after going on than without an interruption")
            publish("saving", about={"megabytes": args.megabytes}, parts={"Saving and going on": result})

        take_turns(
            [Contestant(name, peer) for name, (peer, _) in CONTESTANTS.items()],
            lambda one: run_alone(one, __file__, ["--work", work]),
            rounds=args.rounds,
            after_round=keep,
        )


if __name__ == "__main__":
    main()
