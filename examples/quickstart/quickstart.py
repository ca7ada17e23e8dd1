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
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path("examples/quickstart")
WORK = Path("quickstart")
CONFIG = HERE / "quickstart.yaml"
BASE, TUNED = WORK / "model", WORK / "run" / "final_model"

Scores = dict[str, tuple[int, int]]


def main(options: Sequence[str]) -> int:
    os.chdir(ROOT)
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        walk(options)
    except subprocess.CalledProcessError as error:
        print(f"\nquickstart: this step failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return error.returncode
    return 0


def walk(options: Sequence[str]) -> None:
    """The steps, in order."""
    step("A tiny model of Qwen3's shape, with random weights")
    python(HERE / "build_model.py", BASE)

    step("What is trained: the answer and the token that ends it, nothing else")
    sft("inspect", CONFIG, "--num_examples", "2")

    step("What training will do")
    sft("plan", CONFIG, *options)

    step("The score before: 450 questions about words that appear nowhere in the training data")
    python(HERE / "score.py", BASE, "--output", WORK / "before.json")

    step("Training: all weights, two to three minutes on two cores")
    started = time.monotonic()
    sft("train", CONFIG, *options)
    print(f"training took {time.monotonic() - started:.0f} seconds, start-up included")

    step("The score after")
    python(HERE / "score.py", TUNED, "--output", WORK / "after.json")
    before, after = read_scores(WORK / "before.json"), read_scores(WORK / "after.json")
    print_table(before, after)

    step("A chat with the result, about words it has never seen")
    chat(choose_questions(HERE / "data" / "heldout.jsonl"))

    print("\nGo on with it yourself:    .venv/bin/sft chat --model quickstart/run/final_model")
    print("Then a real model:         see README.md\n")
    print(f"held-out exact match: before {percent(before):.1f} %, after {percent(after):.1f} %")


def step(title: str) -> None:
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    print(f"\n{bold}== {title}{plain}", flush=True)


def sft(*words: str | Path) -> None:
    run(["sft", *words], [sys.executable, "-m", "sft", *words])


def python(*words: str | Path) -> None:
    run(["python", *words], [sys.executable, *words])


def run(shown: Sequence[str | Path], command: Sequence[str | Path]) -> None:
    print(f"$ {' '.join(map(str, shown))}", flush=True)
    subprocess.run(command, check=True)


def chat(questions: Sequence[str]) -> None:
    """Ask one question after another in one conversation."""
    command = [sys.executable, "-m", "sft", "chat", "--model", str(TUNED)]
    print(f"$ sft chat --model {TUNED}", flush=True)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for question in questions:
            process.stdin.write(f"{question}\n")
            process.stdin.flush()
            print(f"> {question}\n{process.stdout.readline().rstrip()}", flush=True)
        process.stdin.close()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def choose_questions(path: Path) -> list[str]:
    """The first held-out question of five tasks."""
    chosen: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        chosen.setdefault(row["task"], row["messages"][0]["content"])
    return list(chosen.values())[:5]


def read_scores(path: Path) -> Scores:
    return {task: (right, asked) for task, (right, asked) in json.loads(path.read_text(encoding="utf-8")).items()}


def print_table(before: Scores, after: Scores) -> None:
    print(f"\n  {'task':<12}{'before':>10}{'after':>10}")
    for task, (right, asked) in after.items():
        print(f"  {task:<12}{f'{before[task][0]}/{asked}':>10}{f'{right}/{asked}':>10}")
    total = sum(asked for _, asked in after.values())
    counts = [f"{sum(right for right, _ in scores.values())}/{total}" for scores in (before, after)]
    print(f"  {'all':<12}{counts[0]:>10}{counts[1]:>10}")


def percent(scores: Scores) -> float:
    return 100 * sum(right for right, _ in scores.values()) / sum(asked for _, asked in scores.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
