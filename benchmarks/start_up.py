"""How long a command takes to answer, and how long until the first optimizer step: ours and that of other programs.

    python benchmarks/start_up.py --data alpaca_data.json [--rounds N] [--parts answers first_step]

``answers``: whole processes that need no tensor: help, version, a mistake in a configuration, a plan from a
configuration alone, the schema.
``first_step``: from the start of the command to the line that tells of the first step of full fine-tuning, of a model
with 12 million weights on 200 rows, whose prepared form lies in each program's own cache already (a run before the
first round puts it there). Beside them stands what nothing on transformers can do without: a Python that imports torch
and the model's class and ends. The batch is one row of at most 128 tokens, so that the step itself is short.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rounds import Contestant, ContestantError, Figures, environment, publish, take_turns, versions_of
from training_work import make_work

STEP_LINE = re.compile(r"(^|\W)loss\W")
ROWS = 200
BAD_CONFIG = "model_name_or_path: somewhere\ndata_path: nowhere.jsonl\nlora_r: eight\n"
PLAN = "model_name_or_path: {model}\ndata_path: {chats}\n"
BARE = "import torch; from transformers import Qwen3ForCausalLM"

ANSWERS: dict[str, tuple[str | None, list[str]]] = {
    "python -c pass": (None, ["-c", "pass"]),
    "sft --help": (None, ["-m", "sft", "--help"]),
    "sft --version": (None, ["-m", "sft", "--version"]),
    "sft train --help": (None, ["-m", "sft", "train", "--help"]),
    "sft train, a mistake in the file": (None, ["-m", "sft", "train", "{folder}/bad.yaml"]),
    "sft plan --config_only": (None, ["-m", "sft", "plan", "--config_only", "{folder}/plan.yaml"]),
    "sft schema": (None, ["-m", "sft", "schema"]),
    "trl --help": ("trl", ["{bin}/trl", "--help"]),
    "trl sft --help": ("trl", ["{bin}/trl", "sft", "--help"]),
    "llamafactory-cli version": ("llama-factory", ["{bin}/llamafactory-cli", "version"]),
    "axolotl train --help": ("axolotl", ["{bin}/axolotl", "train", "--help"]),
    "swift sft --help": ("ms-swift", ["{bin}/swift", "sft", "--help"]),
}
"""Shown as -> whose environment, and the words after Python."""


def answer_of(contestant: Contestant, folder: Path) -> Figures:
    """One whole process; a wrong configuration ends with exit code 2, as it should."""
    words = [word.format(folder=folder, bin=Path(contestant.python()).parent) for word in ANSWERS[contestant.name][1]]
    started = time.perf_counter()
    done = subprocess.run([contestant.python(), *words], capture_output=True, text=True, check=False, env=environment())
    seconds = time.perf_counter() - started
    if done.returncode != (2 if "mistake" in contestant.name else 0):
        raise ContestantError(f"exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    return {"seconds": seconds}


def first_step_words(contestant: Contestant, folder: Path) -> list[str]:
    """The command of each program for the same run; every one prints a line with the loss after each step."""
    shared: dict[str, Any] = {
        "model_name_or_path": folder / "model",
        "output_dir": tempfile.mkdtemp(dir=folder),
        "max_steps": 2,
        "logging_steps": 1,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
    }
    binaries = Path(contestant.python()).parent
    if contestant.name == "imports alone":
        return ["-c", BARE]
    if contestant.name == "ours":
        own = {"data_path": folder / "chats.jsonl", "max_length": 128, "packing": True, "cache_dir": folder / "cache"}
        return ["-m", "sft", "train", *flags(shared | own)]
    if contestant.name == "TRL":
        own = {
            "dataset_name": folder / "rows",
            "max_length": 128,
            "assistant_only_loss": True,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
        }
        return [str(binaries / "trl"), "sft", *flags(shared | own)]
    from contestants.llama_factory import describe_rows

    describe_rows(folder / "chats.jsonl", folder)
    own = {
        "stage": "sft",
        "do_train": True,
        "dataset": "chats",
        "dataset_dir": folder,
        "cutoff_len": 128,
        "finetuning_type": "full",
        "use_cpu": True,
        "bf16": False,
        "disable_gradient_checkpointing": True,
    }
    return [str(binaries / "llamafactory-cli"), "train", *flags(shared | own)]


def flags(values: dict[str, Any]) -> list[str]:
    """As words of a command line."""
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


def first_step_of(contestant: Contestant, folder: Path) -> Figures:
    """Seconds until the first line that tells of a loss; for the imports alone until the end."""
    words = first_step_words(contestant, folder)
    unbuffered = environment() | {"PYTHONUNBUFFERED": "1", "HF_DATASETS_CACHE": str(folder / "datasets")}
    started, seconds, said = time.perf_counter(), None, []
    with subprocess.Popen(
        [contestant.python(), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=unbuffered,
        cwd=folder, bufsize=1, errors="replace",
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            said.append(line)
            if seconds is None and STEP_LINE.search(line) and re.search(r"\d\.\d", line):
                seconds = time.perf_counter() - started
    whole = time.perf_counter() - started
    if process.returncode or (seconds is None and contestant.name != "imports alone"):
        raise ContestantError(f"exit code {process.returncode}: {''.join(said[-5:]).strip()[-400:]}")
    return {"seconds": whole if seconds is None else seconds, "whole": whole}


FIRST_STEP: dict[str, str | None] = {
    "imports alone": None,
    "ours": None,
    "TRL": "trl",
    "LLaMA-Factory": "llama-factory",
}


def prepare_folder(data: Path, folder: Path) -> None:
    """Rows, a model, configurations."""
    make_work(data, folder, rows=ROWS)
    (folder / "rows").mkdir()
    (folder / "rows" / "train.jsonl").write_bytes((folder / "chats.jsonl").read_bytes())
    (folder / "bad.yaml").write_text(BAD_CONFIG)
    (folder / "plan.yaml").write_text(PLAN.format(model=folder / "model", chats=folder / "chats.jsonl"))


def measure_answers(folder: Path, rounds: int, parts: dict[str, Any]) -> None:
    """All commands once to fill the caches, then the rounds."""
    contestants = [Contestant(name, peer) for name, (peer, _) in ANSWERS.items()]
    take_turns(contestants, lambda one: answer_of(one, folder), rounds=1)
    parts["Answers that need no tensor"] = take_turns(
        contestants, lambda one: answer_of(one, folder), rounds=rounds
    ) | {"versions": versions_of(("sft-kit",))}


def measure_first_step(folder: Path, rounds: int, parts: dict[str, Any]) -> None:
    """All commands once, which prepares the data, then the rounds."""
    contestants = [Contestant(name, peer) for name, peer in FIRST_STEP.items()]
    take_turns(contestants, lambda one: first_step_of(one, folder), rounds=1)
    parts["From the command to the first step"] = take_turns(
        contestants, lambda one: first_step_of(one, folder), rounds=rounds
    )


PARTS = {"answers": measure_answers, "first_step": measure_first_step}


def main(words: Sequence[str] | None = None) -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    args = parser.parse_args(words)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    parts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = folder / "few.json"
        few.write_text(json.dumps(json.loads(args.data.read_text(encoding="utf-8"))[:3000]), encoding="utf-8")
        prepare_folder(few, folder)
        for part in args.parts:
            PARTS[part](folder, args.rounds, parts)
            publish("start_up", about={"rows": ROWS}, parts=parts)


if __name__ == "__main__":
    main()
