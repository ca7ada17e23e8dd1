"""What a checkpoint costs beside transformers' own, of the same trainer after the same step, in turns.

    python benchmarks/checkpoints.py [--megabytes 300 1000] [--rounds 7] [--folder DIR]

Written by transformers: weights, optimizer, schedule, random states, straight into the folder, not waited for. Ours
besides: hashes, a manifest, every byte on the disk, and the rename. In the background: what training waits for while a
copy is made. Restored: optimizer state from ``optimizer.pt``, and mapped from ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, Trainer

from sft.config import SFTConfig
from sft.training.checkpoints.keeper import CheckpointKeeper
from sft.training.checkpoints.layout import STATES, TENSORS
from sft.training.checkpoints.manifest import damage
from sft.training.checkpoints.states import from_plain
from sft.training.run import assemble

STEP = 1_000
"""The first step that checkpoints are named by; each gets one of its own."""


def main() -> None:
    """Print a table, one line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk that is measured")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.machine()}, medians of "
          f"{args.rounds} rounds in turns; times in seconds")  # fmt: skip
    for megabytes in args.megabytes:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            trainer = trained(Path(folder), megabytes)
            figures = measure(trainer, Path(folder) / "run", args.rounds)
        print(json.dumps({"checkpoint_MB": megabytes, **figures}))


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


def measure(trainer: Any, folder: Path, rounds: int) -> dict[str, float]:
    """Seconds by way of saving and restoring, and what ours costs beside theirs, round by round."""
    keeper = {
        behind: CheckpointKeeper(folder, background=behind, identity={"fingerprints": {}}) for behind in (False, True)
    }
    times: dict[str, list[float]] = {}

    def save(name: str, way: Callable[[], None]) -> Path:
        trainer.state.global_step += 1
        place = folder / f"checkpoint-{trainer.state.global_step}"
        times.setdefault(name, []).append(seconds(way))
        return place

    def ours(behind: bool) -> None:
        trainer.keeper = keeper[behind]
        trainer._save_checkpoint(trainer.model, None)

    trainer.state.global_step = STEP
    trainer.args.save_total_limit = None
    for place in range(rounds + 1):  # the first warms up
        os.sync()
        theirs = save("transformers", lambda: Trainer._save_checkpoint(trainer, trainer.model, None))
        os.sync()
        safe = save("ours", lambda: ours(False))
        os.sync()
        started = time.perf_counter()
        behind = save("stall in the background", lambda: ours(True))
        trainer.finish_saving()
        times.setdefault("whole in the background", []).append(time.perf_counter() - started)
        for name, way in restoring(trainer, theirs, safe).items():
            times.setdefault(name, []).append(seconds(way))
        if place == 0:
            times.clear()
        for path in (theirs, safe, behind):
            shutil.rmtree(path)
    figures = {name: round(statistics.median(one), 3) for name, one in times.items()}
    ratios = [mine / plain for mine, plain in zip(times["ours"], times["transformers"], strict=True)]
    return {**figures, "ours / transformers": round(statistics.median(ratios), 3)}


def restoring(trainer: Any, theirs: Path, safe: Path) -> dict[str, Callable[[], object]]:
    """Ways to take up the optimizer's state, and what it takes to see that a checkpoint is whole."""

    def mapped() -> None:
        states = json.loads((safe / STATES).read_text())
        trainer.optimizer.load_state_dict(from_plain(states["optimizer"], load_file(safe / TENSORS)))

    def read() -> None:
        trainer.optimizer.load_state_dict(torch.load(theirs / "optimizer.pt", weights_only=True))

    return {"restore transformers": read, "restore ours": mapped, "verify": lambda: damage(safe)}


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
