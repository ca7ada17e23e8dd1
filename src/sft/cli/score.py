"""`sft score --task T --predictions FILE`: scores of a predictions file, without a model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sft.terminal.plain import as_json, plain

if TYPE_CHECKING:
    from sft.tasks.scoring import ScoredFile

HELP = "score a file of predictions"

_HIDDEN = ("dataset", "num_samples", "main_metric", "main_score", "scorer", "per_sample_rougeL")
"""Keys of results that the table says otherwise or is too narrow for."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    parser.add_argument(
        "--task",
        required=True,
        metavar="T",
        help="a LongBench subset such as hotpotqa, longbench (rows name their subset), longbench_e, qmsum, truthfulqa",
    )
    parser.add_argument(
        "--predictions",
        required=True,
        metavar="FILE",
        help="one JSON object a line: LongBench's pred, answers, all_classes, length; or what our evaluation writes",
    )
    parser.add_argument("--truthfulqa_file", metavar="FILE", help="for TruthfulQA rows that lack their answers")
    parser.add_argument("--truthfulqa_scorer", metavar="NAME", help="rougeL, bleu or bleurt (default rougeL)")
    parser.add_argument("--bleurt_checkpoint", metavar="MODEL", help="name or folder of a BLEURT model")
    parser.add_argument("--json", action="store_true", help="print one object with score and rows")


def run(args: argparse.Namespace) -> int:
    """Score the file and print what it has."""
    from sft.tasks import TaskOptions
    from sft.tasks.scoring import score_file

    options = TaskOptions(
        truthfulqa_file=args.truthfulqa_file,
        truthfulqa_scorer=args.truthfulqa_scorer,
        bleurt_checkpoint=args.bleurt_checkpoint,
    )
    scored = score_file(args.task, args.predictions, options)
    print(as_json(_as_object(scored)) if args.json else plain(_as_text(scored)))
    return 0


def _as_object(scored: ScoredFile) -> dict[str, Any]:
    found: dict[str, Any] = {"score": scored.score, "rows": scored.rows, "results": scored.results}
    return found if scored.averages is None else {**found, "averages": scored.averages}


def _as_text(scored: ScoredFile) -> str:
    width = max(map(len, scored.results))
    lines = []
    for name, results in scored.results.items():
        shown = [f"{key} {_number(value)}" for key, value in results.items() if key not in _HIDDEN]
        lines.append(f"{name:<{width}}  {results['num_samples']:>5} rows  {', '.join(shown)}  ({results['scorer']})")
    for language, found in (scored.averages or {}).items():
        if found["average"] is not None:
            categories = ", ".join(f"{name} {value}" for name, value in found["categories"].items())
            lines.append(f"{language:<{width}}  average {found['average']}  ({categories})")
    return "\n".join(lines)


def _number(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_number(inner)}" for key, inner in value.items())
    return f"{value:.4f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
