"""What `sft` says a run will need in memory, beside what the run then takes: ten and more shapes of runs.

    python benchmarks/memory_estimate.py [--only full,lora] [--steps 3] [--given_back]

Each shape is a run of real training steps in a process of its own, with random weights and rows made for it. Measured
is the most memory from the first step to the last, without what the process held before the model was loaded: on a GPU
what PyTorch gave out, on a CPU what was resident, less code that was loaded meanwhile. There glibc keeps what is freed
(keep_cpu_memory, the default); with --given_back each shape is run once more without that, with an estimate of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    "full": {"per_device_train_batch_size": 4, "max_length": 256},
    "LoRA": {"per_device_train_batch_size": 6, "max_length": 256, "use_lora": True},
    "packed": {"per_device_train_batch_size": 2, "max_length": 512, "packing": True, "data": "short"},
    "padded": {"per_device_train_batch_size": 3, "max_length": 512, "data": "mixed"},
    "long": {"per_device_train_batch_size": 1, "max_length": 1536, "data": "long"},
    "checkpointing": {"per_device_train_batch_size": 12, "max_length": 256, "gradient_checkpointing": True},
    "bf16": {"per_device_train_batch_size": 4, "max_length": 256, "bf16": True},
    "another architecture": {"model": "gpt2", "per_device_train_batch_size": 4, "max_length": 256},
    "large vocabulary": {"model": "wide", "per_device_train_batch_size": 2, "max_length": 256},
    "larger batch": {"per_device_train_batch_size": 8, "max_length": 256},
    "accumulation": {"per_device_train_batch_size": 3, "max_length": 256, "gradient_accumulation_steps": 2},
    "mixture of experts": {"model": "mixture", "per_device_train_batch_size": 4, "max_length": 256},
    "Adafactor": {"per_device_train_batch_size": 4, "max_length": 256, "optim": "adafactor"},
    "long LoRA bf16": {
        "per_device_train_batch_size": 1, "max_length": 1536, "use_lora": True, "bf16": True, "data": "long",
    },
}  # fmt: skip
"""Options of each run, but for ``model`` and ``data``, which are made here."""

ROWS = {"even": (256, 256), "short": (20, 90), "mixed": (40, 500), "long": (1530, 1530)}
"""Fewest and most words of a row; a word is about a token."""

MODELS = {
    "base": {"vocab_size": 8_000, "num_hidden_layers": 4},
    "wide": {"vocab_size": 100_000, "num_hidden_layers": 2},
    "mixture": {"vocab_size": 8_000, "num_hidden_layers": 3, "num_experts": 8, "num_experts_per_tok": 2},
    "gpt2": {"vocab_size": 8_000, "n_embd": 512, "n_layer": 4, "n_head": 8, "n_positions": 4096},
}


def main() -> None:
    """Run each shape in a process of its own and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="shapes, by a part of their name, separated by commas")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--given_back", action="store_true", help="each shape once more without keep_cpu_memory")
    parser.add_argument("--without_keeping", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one object a shape")
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.shape is not None:
        print(json.dumps(run_shape(args.shape, Path(args.folder), args.steps, keep=not args.without_keeping)))
        return
    wanted = [one for one in SHAPES if args.only is None or any(part in one for part in args.only.split(","))]
    if not args.json:
        print(f"{'':<36}{'estimated':>12}{'measured':>12}{'ratio':>8}   {'first step':>10}{'seconds':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for shape in wanted:
            for words in [[], ["--without_keeping"]] if args.given_back else [[]]:
                found = in_own_process(shape, folder, args.steps, *words)
                name = shape + (", given back" if words else "")
                print(json.dumps({"shape": name, **found}) if args.json else row(name, found), flush=True)


def row(shape: str, found: dict[str, float]) -> str:
    """One line of the table."""
    ratio, first = found["estimated"] / found["measured"], found["first_estimated"] / found["first_measured"]
    sizes = "".join(f"{found[name] / 1e6:9.0f} MB" for name in ("estimated", "measured"))
    return f"{shape:<36}{sizes}{ratio:8.2f}   {first:10.2f}{found['seconds']:10.1f}"


def in_own_process(shape: str, folder: str, steps: int, *more: str) -> dict[str, float]:
    """The figures of a shape."""
    words = [sys.executable, __file__, "--shape", shape, "--folder", folder, "--steps", str(steps), *more]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shape}: {done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_shape(shape: str, folder: Path, steps: int, *, keep: bool) -> dict[str, float]:
    """Make model and rows, train, and read the run's own record."""
    from sft.config import SFTConfig
    from sft.training.run import run_training

    options = dict(SHAPES[shape])
    model, data = options.pop("model", "base"), options.pop("data", "even")
    base = make_model(model, folder / model)
    rows = make_rows(folder / f"{data}.json", *ROWS[data])
    config = SFTConfig(
        model_name_or_path=str(base),
        data_path=str(rows),
        output_dir=str(folder / shape.replace(" ", "-")),
        cache_dir=str(folder / "cache"),
        **{"gradient_accumulation_steps": 1, **options},
        max_steps=steps,
        save_strategy="no",
        keep_cpu_memory=keep,
        overlong="cut_end",
        use_chat_template=False,
    )
    result = run_training(config)
    memory = json.loads((result.output_dir / "run.json").read_text())["memory"]
    return {
        "estimated": memory["estimate"]["peak_bytes"],
        "measured": memory["run_measured_bytes"],
        "first_estimated": memory["estimate"]["first_step_bytes"],
        "first_measured": memory["first_step_measured_bytes"],
        "seconds": result.seconds,
    }


def make_model(kind: str, folder: Path) -> Path:
    """A model of random weights and a tokenizer of words."""
    if folder.is_dir():
        return folder
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        PreTrainedTokenizerFast,
        Qwen3Config,
        Qwen3ForCausalLM,
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
    )

    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "tie_word_embeddings": True,
        **MODELS[kind],
    }
    if kind == "gpt2":
        model: Any = GPT2LMHeadModel(GPT2Config(**MODELS[kind], resid_pdrop=0.1))
    elif kind == "mixture":
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**{**shape, "moe_intermediate_size": 512}))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**shape))
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"</s>": 0, "<unk>": 1, "a": 2, "b": 3, ":": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="</s>").save_pretrained(folder)
    return folder


def make_rows(path: Path, fewest: int, most: int) -> Path:
    """Conversations of random length, with the longest among them."""
    import random

    chance = random.Random(0)
    lengths = [most, *(chance.randint(fewest, most) for _ in range(127))]
    rows = [{"prompt": "a b", "completion": " a" * length} for length in lengths]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path.rename(path.with_suffix(".jsonl"))


if __name__ == "__main__":
    main()
