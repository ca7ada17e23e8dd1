"""Ask a model every held-out question, and count the answers that are right to the last letter.

    python score.py MODEL [--output FILE]

Answers are generated greedily, after the very prompt that training ended its untrained part with.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from sft.data.render import Renderer
from sft.generation import Sampling
from sft.generation.in_process import InProcessEngine
from sft.models.load import load_model
from sft.models.tokenizer import load_tokenizer

Scores = dict[str, tuple[int, int]]
"""Right answers and questions asked, by task."""

HELDOUT = Path(__file__).resolve().parent / "data" / "heldout.jsonl"
SAMPLING = Sampling(max_new_tokens=24)
"""The longest right answer has 16 tokens."""


def score(model_path: str) -> Scores:
    """Ask everything that is held out."""
    rows = [json.loads(line) for line in HELDOUT.read_text(encoding="utf-8").splitlines()]
    tokenizer = load_tokenizer(model_path)
    renderer = Renderer(tokenizer)
    prompts = [renderer.generation_ids(row["messages"][:-1]) for row in rows]
    completions = InProcessEngine(load_model(model_path), tokenizer).complete(prompts, SAMPLING)
    asked, right = Counter(), Counter()
    for row, completion in zip(rows, completions, strict=True):
        asked[row["task"]] += 1
        right[row["task"]] += completion.finished == "stop" and completion.text == row["messages"][-1]["content"]
    return {task: (right[task], asked[task]) for task in sorted(asked)}


def read_scores(path: Path) -> Scores:
    """What ``--output`` wrote."""
    return {task: (right, asked) for task, (right, asked) in json.loads(path.read_text(encoding="utf-8")).items()}


def percent(scores: Scores) -> float:
    """Share of right answers over all tasks."""
    return 100 * sum(right for right, _ in scores.values()) / sum(asked for _, asked in scores.values())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a model")
    parser.add_argument("--output", type=Path, help="also write right and asked by task to this JSON file")
    args = parser.parse_args(argv)
    disable_progress_bar()
    scores = score(args.model)
    right, asked = (sum(column) for column in zip(*scores.values(), strict=True))
    print(f"{args.model}: {right} of {asked} held-out questions answered right ({percent(scores):.1f} %)")
    if args.output is not None:
        args.output.write_text(json.dumps(scores), encoding="utf-8")


if __name__ == "__main__":
    main()
