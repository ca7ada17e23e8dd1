"""How long scoring takes: ours and the plain packages in turn, in one process, on the same strings.

    python benchmarks/scoring.py [--data FOLDER] [--repeats N] [--json]

FOLDER holds longbench/qmsum.jsonl and truthfulqa/TruthfulQA-817.csv. Predictions are texts of the data sets themselves:
for QMSum the reference of the next row and the beginning of the transcript, about as long as 512 tokens; for TruthfulQA
the best answer to the next question. Both sides must give the same numbers, else nothing is printed but the difference.

Needs rouge==1.0.1 and rouge_score==0.1.2 (the `test` extra).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rouge import Rouge
from rouge_score.rouge_scorer import RougeScorer

from sft.tasks import TaskOptions, open_tasks
from sft.tasks.metrics.porter import stem_word
from sft.tasks.metrics.rouge import rouge
from sft.tasks.metrics.rouge_score import ROUGE_NAMES, rouge_l, rouge_scores

TRANSCRIPT_CHARACTERS = 1200
Pair = tuple[str, str]
Scorer = Callable[[Sequence[Pair]], list[float]]


def qmsum_pairs(folder: Path) -> list[Pair]:
    """Prediction and reference of 200 rows."""
    (task,) = open_tasks("qmsum", TaskOptions(longbench_dir=str(folder / "longbench")))
    rows = task.examples()
    following = [*rows[1:], rows[0]]
    return [
        (f"{other.references[0]}\n{row.inputs['context'][:TRANSCRIPT_CHARACTERS]}", row.references[0])
        for row, other in zip(rows, following, strict=True)
    ]


def truthfulqa_pairs(folder: Path) -> list[Pair]:
    """Prediction and each true or false reference of 817 questions."""
    (task,) = open_tasks("truthfulqa", TaskOptions(truthfulqa_file=str(folder / "truthfulqa" / "TruthfulQA-817.csv")))
    rows = task.examples()
    following = [*rows[1:], rows[0]]
    return [
        (str(other.taught), reference)
        for row, other in zip(rows, following, strict=True)
        for reference in (*row.references, *row.incorrect)
    ]


def ours_stemmed(pairs: Sequence[Pair]) -> list[float]:
    stem_word.cache_clear()
    return [score for pair in pairs for score in rouge_scores(*pair).values()]


def theirs_stemmed(pairs: Sequence[Pair]) -> list[float]:
    scorer = RougeScorer(list(ROUGE_NAMES), use_stemmer=True)
    return [score.fmeasure for prediction, reference in pairs for score in scorer.score(reference, prediction).values()]


def ours_plain(pairs: Sequence[Pair]) -> list[float]:
    return [rouge_l(*pair, stem=False) for pair in pairs]


def theirs_plain(pairs: Sequence[Pair]) -> list[float]:
    scorer = RougeScorer(["rougeL"])
    return [scorer.score(reference, prediction)["rougeL"].fmeasure for prediction, reference in pairs]


def ours_longbench(pairs: Sequence[Pair]) -> list[float]:
    return [rouge(*pair) for pair in pairs]


def theirs_longbench(pairs: Sequence[Pair]) -> list[float]:
    scorer = Rouge()
    return [scorer.get_scores([prediction], [reference], avg=True)["rouge-l"]["f"] for prediction, reference in pairs]


def measure(name: str, pairs: Sequence[Pair], ours: Scorer, theirs: Scorer, repeats: int) -> dict[str, object]:
    """Run both in turn; the median of each."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(repeats):
        scores = {}
        for side, scorer in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            scores[side] = scorer(pairs)
            seconds[side].append(time.perf_counter() - start)
        if scores["ours"] != scores["theirs"]:
            sys.exit(f"{name}: the scores differ")
    mine, plain = (statistics.median(seconds[side]) for side in ("ours", "theirs"))
    return {"what": name, "pairs": len(pairs), "ours_s": mine, "plain_s": plain, "ratio": plain / mine}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    default = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    qmsum, truthfulqa = qmsum_pairs(args.data), truthfulqa_pairs(args.data)
    cases: tuple[tuple[str, Sequence[Pair], Scorer, Scorer], ...] = (
        ("QMSum 200 rows, rouge1/2/L/Lsum stemmed, beside rouge_score 0.1.2", qmsum, ours_stemmed, theirs_stemmed),
        ("TruthfulQA 817 rows, rougeL, beside rouge_score 0.1.2", truthfulqa, ours_plain, theirs_plain),
        ("LongBench qmsum 200 rows, rouge-l, beside rouge 1.0.1", qmsum, ours_longbench, theirs_longbench),
    )
    for name, pairs, ours, theirs in cases:
        found = measure(name, pairs, ours, theirs, args.repeats)
        if args.json:
            print(json.dumps(found))
        else:
            print(f"{name}: {found['ours_s']:.2f} s, plain {found['plain_s']:.2f} s, {found['ratio']:.1f} times")


if __name__ == "__main__":
    main()
