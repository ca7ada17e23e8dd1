"""What `sft` says a run will need in memory, beside what the run then takes: ten and more shapes of runs.

    python benchmarks/memory_estimate.py [--only full,lora] [--steps 3] [--given_back]
    python benchmarks/memory_estimate.py --parted [--only ZeRO]

Each shape is a run of real training steps in a process of its own, with random weights and rows made for it. Measured
is the most memory from the first step to the last, without what the process held before the model was loaded: on a GPU
what PyTorch gave out, on a CPU what was resident, less code that was loaded meanwhile. There glibc keeps what is freed
(keep_cpu_memory, the default); with --given_back each shape is run once more without that, with an estimate of its own.

With --parted two processes (gloo) share a run out, in each way that there is, and freed memory is given back. Measured
is the first of them, twice: what was resident, as above, and what was alive, by glibc's own count of blocks in use. The
second is what a GPU's memory would hold; the first has holes as well.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

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

PARTED_MODEL: dict[str, Any] = {"model": "large", "per_device_train_batch_size": 2, "max_length": 256}
ACCUMULATED = {"gradient_accumulation_steps": 2}
HALF = {"bf16": True}
LORA = {"use_lora": True}
FSDP2 = {"fsdp": "full_shard auto_wrap", "fsdp_config": {"fsdp_version": 2}}


def zero(stage: int) -> dict[str, Any]:
    """A DeepSpeed file as transformers' own examples have it."""
    auto = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    sizes = ["reduce_bucket_size"]
    if stage == 3:
        sizes += ["stage3_prefetch_bucket_size", "stage3_param_persistence_threshold"]
    return {
        "deepspeed": {
            **dict.fromkeys(auto, "auto"),
            "bf16": {"enabled": "auto"},
            "zero_optimization": {"stage": stage, **dict.fromkeys(sizes, "auto")},
        }
    }


PARTED: dict[str, dict[str, Any]] = {
    "DDP": {},
    "DDP, accumulation": ACCUMULATED,
    "DDP, LoRA": LORA,
    "ZeRO-1": zero(1),
    "ZeRO-2": zero(2),
    "ZeRO-2, bf16": zero(2) | HALF,
    "ZeRO-3": zero(3),
    "ZeRO-3, bf16": zero(3) | HALF,
    "ZeRO-3, accumulation": zero(3) | ACCUMULATED,
    "ZeRO-3, LoRA": zero(3) | LORA,
    "FSDP2": FSDP2,
    "FSDP2, bf16": FSDP2 | HALF,
    "FSDP2, accumulation": FSDP2 | ACCUMULATED,
    "FSDP2, checkpointing": FSDP2 | {"gradient_checkpointing": True},
    "FSDP2, LoRA": FSDP2 | LORA,
    "tensor parallel": {"tensor_parallel_size": 2},
    "context parallel": {"context_parallel_size": 2},
}
"""Runs of two processes, over ``PARTED_MODEL``."""

ROWS = {"even": (256, 256), "short": (20, 90), "mixed": (40, 500), "long": (1530, 1530)}
"""Fewest and most words of a row; a word is about a token."""

MODELS = {
    "base": {"vocab_size": 8_000, "num_hidden_layers": 4},
    "wide": {"vocab_size": 100_000, "num_hidden_layers": 2},
    "large": {
        "vocab_size": 8_000, "num_hidden_layers": 4, "hidden_size": 1024, "intermediate_size": 3072, "head_dim": 128,
    },
    "mixture": {"vocab_size": 8_000, "num_hidden_layers": 3, "num_experts": 8, "num_experts_per_tok": 2},
    "gpt2": {"vocab_size": 8_000, "n_embd": 512, "n_layer": 4, "n_head": 8, "n_positions": 4096},
}  # fmt: skip


def main() -> None:
    """Run each shape in processes of its own and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="shapes, by a part of their name, separated by commas")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--given_back", action="store_true", help="each shape once more without keep_cpu_memory")
    parser.add_argument("--parted", action="store_true", help="the ways in which two processes share a run out")
    parser.add_argument("--json", action="store_true", help="print one object a shape")
    parser.add_argument("--without_keeping", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    shapes = {name: PARTED_MODEL | shape for name, shape in PARTED.items()} if args.parted else SHAPES
    if args.shape is not None:
        found = run_shape(shapes[args.shape], args.shape, Path(args.folder), args.steps, keep=not args.without_keeping)
        print("\n" + json.dumps(found))
        return
    wanted = [one for one in shapes if args.only is None or any(part in one for part in args.only.split(","))]
    if not args.json:
        alive = f"{'alive':>12}{'ratio':>8}" if args.parted else ""
        print(f"{'':<36}{'estimated':>12}{'measured':>12}{'ratio':>8}   {'first step':>10}{'seconds':>10}{alive}")
    both = [[], ["--without_keeping"]] if args.given_back else [["--without_keeping"]] if args.parted else [[]]
    with tempfile.TemporaryDirectory() as folder:
        for shape in wanted:
            for words in both:
                more = [*words, *(["--parted"] if args.parted else [])]
                found = in_own_processes(shapes[shape], shape, folder, args.steps, *more)
                name = shape + (", given back" if words and not args.parted else "")
                print(
                    json.dumps({"shape": name, **found}) if args.json else row(name, found, is_parted=args.parted),
                    flush=True,
                )


def row(shape: str, found: dict[str, float], *, is_parted: bool) -> str:
    """One line of the table."""
    ratio, first = found["estimated"] / found["measured"], found["first_estimated"] / found["first_measured"]
    sizes = "".join(f"{found[name] / 1e6:9.0f} MB" for name in ("estimated", "measured"))
    line = f"{shape:<36}{sizes}{ratio:8.2f}   {first:10.2f}{found['seconds']:10.1f}"
    if is_parted:
        line += f"{found['alive'] / 1e6:9.0f} MB{found['estimated'] / found['alive']:8.2f}"
    return line


def in_own_processes(options: dict[str, Any], name: str, folder: str, steps: int, *more: str) -> dict[str, float]:
    """The figures of a shape; of several processes, of the first."""
    processes = 2 if "--parted" in more else 1
    words = [__file__, "--shape", name, "--folder", folder, "--steps", str(steps), *more]
    if processes > 1:
        make_model(options["model"], Path(folder) / options["model"])  # not by both of them
        words = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", *words]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return dict(json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"estimated"'))))


def run_shape(shape: dict[str, Any], name: str, folder: Path, steps: int, *, keep: bool) -> dict[str, float]:
    """Make model and rows, train, and read the run's own record."""
    from sft.config import SFTConfig
    from sft.training.run import run_training

    options = dict(shape)
    model, data = options.pop("model", "base"), options.pop("data", "even")
    base = make_model(model, folder / model)
    rows = make_rows(folder / f"{data}.jsonl", *ROWS[data])
    config = SFTConfig(
        model_name_or_path=str(base),
        data_path=str(rows),
        output_dir=str(folder / name.replace(" ", "-").replace(",", "")),
        cache_dir=str(folder / "cache"),
        **{"gradient_accumulation_steps": 1, **options},
        max_steps=steps,
        save_strategy="no",
        keep_cpu_memory=keep,
        overlong="cut_end",
        use_chat_template=False,
    )
    needs_gpus = {"fsdp", "tensor_parallel_size"} & options.keys()
    with gpus_for_cpus() if needs_gpus else nullcontext(), AliveBlocks() as alive:
        result = run_training(config, callbacks=[alive.from_first_step()])
    memory = json.loads((result.output_dir / "run.json").read_text())["memory"]
    return {
        "estimated": memory["estimate"]["peak_bytes"],
        "measured": memory["run_measured_bytes"],
        "first_estimated": memory["estimate"]["first_step_bytes"],
        "first_measured": memory["first_step_measured_bytes"],
        "seconds": result.seconds,
        "alive": alive.rise,
        "moments": memory["estimate"]["moments"],
    }


class BlocksInUse(ctypes.Structure):
    """What glibc tells of its blocks (mallinfo2 in malloc.h)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "mapped", "usmblks", "fsmblks", "used", "free", "keepcost")
    )


class AliveBlocks:
    """The most bytes of blocks in use from the first step on, without those in use before the model was loaded."""

    def __init__(self) -> None:
        self._count = ctypes.CDLL(None).mallinfo2
        self._count.restype = BlocksInUse
        self._before = self._most = 0
        self._over = threading.Event()

    @property
    def rise(self) -> int:
        """Bytes."""
        return self._most - self._before

    def __enter__(self) -> AliveBlocks:
        from sft.training.memory.measured import Before

        own = Before.now

        def now() -> Before:
            self._before = self._now()
            return own()

        Before.now = now  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._look, daemon=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def from_first_step(self) -> Any:
        """What has a trainer start the count."""
        from transformers import TrainerCallback

        class Begin(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(callback, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if not self._thread.is_alive():
                    self._thread.start()

            def on_train_end(callback, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                self._over.set()

        return Begin()

    def _look(self) -> None:
        while not self._over.wait(0.01):
            self._most = max(self._most, self._now())

    def _now(self) -> int:
        found = self._count()
        return int(found.used + found.mapped)


def gpus_for_cpus() -> AbstractContextManager[None]:
    """accelerate shares weights out on GPUs only; the tests have what lets it take processes of a CPU for such."""
    import torch

    if torch.cuda.is_available():
        return nullcontext()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "distributed"))
    return cast("AbstractContextManager[None]", importlib.import_module("fsdp_on_cpu").FsdpOnCpu())


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
    if path.exists():
        return path
    lengths = [most, *(chance.randint(fewest, most) for _ in range(127))]
    rows = [{"prompt": "a b", "completion": " a" * length} for length in lengths]
    ours = path.with_suffix(f".{os.getpid()}")  # of several processes each writes the same
    ours.write_text("\n".join(map(json.dumps, rows)))
    return ours.replace(path)


if __name__ == "__main__":
    main()
