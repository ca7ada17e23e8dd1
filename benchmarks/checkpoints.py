"""What a checkpoint costs beside transformers' own, of the same trainer after the same step, in turns.

    python benchmarks/checkpoints.py [--megabytes 100 300 1000] [--rounds 9] [--folder DIR]

Written by transformers: weights, optimizer, schedule, random states, straight into the folder, not waited for; and once
more with every file and folder of it synced, which is what makes it last. Ours: the same contents with hashes, a
manifest, every byte on the disk, and the rename. *Stands still*: what training waits for where a copy is written in the
background. *Restored*: optimizer state from ``optimizer.pt``, and mapped from ours. Before each of them
the disk is waited for, so that nobody pays for another.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rounds import OURS, Figures, Result, column, publish, versions_of
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, Trainer

from sft.config import SFTConfig
from sft.training.checkpoints.disk import sync_file
from sft.training.checkpoints.keeper import CheckpointKeeper
from sft.training.checkpoints.layout import STATES, TENSORS
from sft.training.checkpoints.manifest import damage
from sft.training.checkpoints.states import from_plain
from sft.training.run import assemble

PLAIN = "transformers"
SYNCED = "transformers, then synced"

STEP = 1_000
"""The first step that checkpoints are named by; each gets one of its own."""


def main() -> None:
    """Measure, print and write the result: a part for every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk that is measured")
    args = parser.parse_args()
    for megabytes in args.megabytes:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            result = measure(trained(Path(folder), megabytes), Path(folder) / "run", args.rounds)
        publish("checkpoints", about={"megabytes": megabytes}, parts={f"{megabytes:,} MB": result})
        for name, found in result["measured"].items():
            print(f"{megabytes:,} MB, {name}: " + ", ".join(
                f"{key} {statistics.median(column(found, key)):.3f}" for key in ("seconds", "stall", "restore")
            ))  # fmt: skip
        for plain in (PLAIN, SYNCED):
            pairs = zip(*(column(result["measured"][name], "seconds") for name in ("ours", plain)), strict=True)
            ratio = statistics.median(mine / theirs for mine, theirs in pairs)
            print(f"{megabytes:,} MB: ours takes {ratio:.3f} of {plain} (median of the rounds)", flush=True)


def trained(folder: Path, megabytes: int) -> Any:
    """A trainer that took one step, whose checkpoint has about so many megabytes: weights, and Adam's two copies."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        ["one two three"], trainers.BpeTrainer(special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<s>", model_max_length=64)
    fast.chat_template = (
        "{% for m in messages %}{{ '<s>' + m['role'] + ' ' + m['content'] }}"
        "{% if m['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<s>assistant ' }}{% endif %}"
    )
    layers = max(1, round(megabytes * 1e6 / 12 / 12.6e6))
    config = Qwen3Config(
        vocab_size=len(fast),
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=128,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder / "model")
    fast.save_pretrained(folder / "model")
    (folder / "rows.json").write_text(json.dumps([{"instruction": "count", "output": "one two"}] * 4))
    run = assemble(
        SFTConfig(
            model_name_or_path=str(folder / "model"),
            data_path=str(folder / "rows.json"),
            output_dir=str(folder / "run"),
            cache_dir=str(folder / "cache"),
            max_steps=1,
            save_strategy="no",
        )
    )
    run.trainer.train()
    return run.trainer


def measure(trainer: Any, folder: Path, rounds: int) -> Result:
    """Seconds of each way to save, round by round."""
    keeper = {
        behind: CheckpointKeeper(folder, background=behind, identity={"fingerprints": {}}) for behind in (False, True)
    }

    def plain() -> None:
        Trainer._save_checkpoint(trainer, trainer.model, None)

    def synced() -> None:
        plain()
        place = folder / f"checkpoint-{trainer.state.global_step}"
        for path in (*(path for path in place.rglob("*") if path.is_file()), place, folder):
            sync_file(path)

    def ours(behind: bool) -> None:
        trainer.keeper = keeper[behind]
        trainer._save_checkpoint(trainer.model, None)

    trainer.state.global_step, trainer.args.save_total_limit = STEP, None
    ways = {PLAIN: plain, SYNCED: synced, "ours": lambda: ours(False), "behind": lambda: ours(True)}
    measured: dict[str, list[Figures]] = {name: [] for name in (PLAIN, SYNCED, "ours")}
    busy = []
    for number in range(rounds + 1):  # the first warms up
        busy.append(round(os.getloadavg()[0], 2))
        took, places = {}, {}
        for name in ways if number % 2 else reversed(ways):
            trainer.state.global_step += 1
            places[name] = folder / f"checkpoint-{trainer.state.global_step}"
            os.sync()
            took[name] = seconds(ways[name])
            trainer.finish_saving()
        restored = {name: seconds(way) for name, way in restoring(trainer, places[PLAIN], places["ours"]).items()}
        for path in places.values():
            shutil.rmtree(path)
        if number == 0:
            continue
        for name in (PLAIN, SYNCED):
            measured[name].append({"seconds": took[name], "stall": took[name], "restore": restored["theirs"]})
        mine = {"seconds": took["ours"], "stall": took["behind"], "restore": restored["ours"]}
        measured["ours"].append({**mine, "verify": restored["verify"], "versions": versions_of(OURS)})
    return {"measured": measured, "skipped": {}, "rounds": rounds, "load_before_each": busy[1:]}


def restoring(trainer: Any, theirs: Path, safe: Path) -> dict[str, Callable[[], object]]:
    """Ways to take up the optimizer's state, and what it takes to see that a checkpoint is whole."""

    def mapped() -> None:
        states = json.loads((safe / STATES).read_text())
        trainer.optimizer.load_state_dict(from_plain(states["optimizer"], load_file(safe / TENSORS)))

    def read() -> None:
        trainer.optimizer.load_state_dict(torch.load(theirs / "optimizer.pt", weights_only=True))

    return {"theirs": read, "ours": mapped, "verify": lambda: damage(safe)}


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
