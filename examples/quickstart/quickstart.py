"""From nothing to a tuned, measured, tried model: every step is a command that you can type yourself.

    python examples/quickstart/quickstart.py [--key value ...]        (`make quickstart` installs first)

Everything it writes lies in ./quickstart. Options, such as --seed 1, are passed on to `sft plan` and `sft train`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sft.cli.main import main as run_sft
from sft.training.start_up import hidden

# A model as plain as this one needs none of them, and importing them takes seconds and speaks of other machines.
with hidden(("bitsandbytes", "torchao", "deepspeed", "datasets")):
    import build_model
    import score
    import torch
    from transformers import Trainer  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
HERE = Path("examples/quickstart")
WORK = Path("quickstart")
CONFIG = HERE / "quickstart.yaml"
BASE, TUNED = WORK / "model", WORK / "run" / "final_model"
NUM_THREADS = 2
"""More would wait for each other: the matrices are small."""


def main(options: Sequence[str]) -> None:
    """The steps, in order."""
    os.chdir(ROOT)
    shutil.rmtree(WORK, ignore_errors=True)
    torch.set_num_threads(min(NUM_THREADS, torch.get_num_threads()))

    step("A tiny model of Qwen3's shape, with random weights")
    python(build_model.main, HERE / "build_model.py", BASE)

    step("What is trained: the answer and the token that ends it, nothing else")
    sft("inspect", CONFIG, "--num_examples", "2")

    step("What training will do")
    sft("plan", CONFIG, *options)

    step("The score before: 450 questions about words that appear nowhere in the training data")
    python(score.main, HERE / "score.py", BASE, "--output", WORK / "before.json")

    step("Training: all weights, about three minutes on two cores")
    started = time.monotonic()
    sft("train", CONFIG, *options)
    print(f"training took {time.monotonic() - started:.0f} seconds")

    step("The score after")
    python(score.main, HERE / "score.py", TUNED, "--output", WORK / "after.json")
    before, after = score.read_scores(WORK / "before.json"), score.read_scores(WORK / "after.json")
    print_table(before, after)

    step("A chat with the result, about words it has never seen")
    chat(choose_questions(HERE / "data" / "heldout.jsonl"))

    print("\nThe page of the run:       quickstart/run/report.html (open it in a browser)")
    print("Go on with it yourself:    .venv/bin/sft chat --model quickstart/run/final_model")
    print("Then a real model:         see README.md\n")
    print(f"held-out exact match: before {score.percent(before):.1f} %, after {score.percent(after):.1f} %")


def step(title: str) -> None:
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"\n{bold}== {title}{plain}", flush=True)


def sft(*words: str | Path) -> None:
    """A command of sft, in this process, which has loaded torch already."""
    show("sft", *words)
    code = run_sft([str(word) for word in words])
    if code:
        sys.exit(code)


def python(main: Callable[[list[str]], None], script: Path, *words: str | Path) -> None:
    """A script of this folder, in this process."""
    show("python", script, *words)
    main([str(word) for word in words])


def show(*words: str | Path) -> None:
    print("$", *words, flush=True)


def chat(questions: Sequence[str]) -> None:
    """Ask one question after another in one conversation."""
    command = [sys.executable, "-m", "sft", "chat", "--model", str(TUNED)]
    show("sft", "chat", "--model", TUNED)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for question in questions:
            process.stdin.write(f"{question}\n")
            process.stdin.flush()
            print(f"> {question}\n{process.stdout.readline().rstrip()}", flush=True)
        process.stdin.close()
    if process.returncode:
        sys.exit(process.returncode)


def choose_questions(path: Path) -> list[str]:
    """The first held-out question of five tasks."""
    chosen: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        chosen.setdefault(row["task"], row["messages"][0]["content"])
    return list(chosen.values())[:5]


def print_table(before: score.Scores, after: score.Scores) -> None:
    print(f"\n  {'task':<12}{'before':>10}{'after':>10}")
    for task, (right, asked) in after.items():
        print(f"  {task:<12}{f'{before[task][0]}/{asked}':>10}{f'{right}/{asked}':>10}")
    total = sum(asked for _, asked in after.values())
    counts = [f"{sum(right for right, _ in scores.values())}/{total}" for scores in (before, after)]
    print(f"  {'all':<12}{counts[0]:>10}{counts[1]:>10}")


if __name__ == "__main__":
    main(sys.argv[1:])
