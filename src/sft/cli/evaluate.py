"""`sft evaluate --model M [--adapter A] --tasks T,... --engine E`: asks a model, scores its answers."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sft.cli.bits import add_bits
from sft.errors import EXIT_DONE, ConfigError
from sft.terminal.plain import as_json, plain

if TYPE_CHECKING:
    from sft.cli.evaluation_session import ModelEvaluation
    from sft.tasks.task import Results

HELP = "ask a model the rows of tasks, and score its answers"
ENGINES = ("in_process", "sglang", "vllm", "openai")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    parser.add_argument(
        "--model", required=True, metavar="M", help="folder or hub name of a model, or folder of an adapter"
    )
    parser.add_argument("--adapter", metavar="A", help="folder or hub name of an adapter for the model")
    parser.add_argument(
        "--tasks",
        required=True,
        metavar="T,...",
        help="longbench, longbench_e, qmsum, truthfulqa, or subsets of LongBench such as hotpotqa; with commas",
    )
    parser.add_argument("--samples", type=int, metavar="N", help="rows asked of each task, the first ones; unset: all")
    parser.add_argument("--output", metavar="DIR", help="write results and predictions there; unset: nowhere")
    parser.add_argument(
        "--max_prompt_tokens",
        type=int,
        metavar="N",
        help="longest text of a row; a longer one loses its middle; unset: what the model's context leaves",
    )
    parser.add_argument("--json", action="store_true", help="print one object")
    _add_model_options(parser)
    _add_engine_options(parser)
    _add_task_options(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--chat_template", metavar="NAME", help="in place of the model's own: a name sft ships, or a .jinja file"
    )
    parser.add_argument(
        "--chat_template_kwargs",
        type=_json_object,
        default={},
        metavar="JSON",
        help="variables for the chat template, such as '{\"enable_thinking\": false}'",
    )
    parser.add_argument(
        "--dtype",
        default="auto",
        choices=["auto", "float32", "bfloat16", "float16"],
        help="precision of the weights; auto (default): as saved",
    )
    add_bits(parser)
    parser.add_argument("--trust_remote_code", action="store_true", help="run Python code that the model brings along")


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        default="in_process",
        choices=ENGINES,
        help="what answers: this process (default), an SGLang or vLLM server that is started for it, or a server that "
        "speaks OpenAI's completions",
    )
    parser.add_argument(
        "--engine_python", metavar="PYTHON", help="interpreter that SGLang or vLLM is installed for; unset: this one"
    )
    parser.add_argument("--engine_url", metavar="URL", help="address of a server that runs already")
    parser.add_argument("--engine_model", metavar="NAME", help="what that server calls the model; unset: as --model")
    parser.add_argument(
        "--engine_args", type=shlex.split, default=[], metavar="WORDS", help="more words for the server's command line"
    )


def _add_task_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--truthfulqa_scorer", metavar="NAME", help="rougeL, bleu or bleurt (default rougeL)")
    parser.add_argument("--bleurt_checkpoint", metavar="MODEL", help="name or folder of a BLEURT model")
    parser.add_argument("--longbench_dir", metavar="DIR", help="LongBench's files; unset: $SFT_LONGBENCH_DIR, else hub")
    parser.add_argument("--qmsum_dir", metavar="DIR", help="QMSum's own files; unset: $SFT_QMSUM_DIR")
    parser.add_argument(
        "--truthfulqa_file", metavar="FILE", help="TruthfulQA's CSV; unset: $SFT_TRUTHFULQA_FILE, else hub"
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    _check_counts(args)
    from transformers.utils import logging

    logging.disable_progress_bar()
    evaluation = _evaluation(args)
    results = evaluation.run()
    print(as_json(_as_object(evaluation, results)) if args.json else plain(_as_text(evaluation, results)))
    return EXIT_DONE


def _evaluation(args: argparse.Namespace) -> ModelEvaluation:
    """Everything that can be wrong with the words is found here, before a model is loaded."""
    from sft.cli.evaluation_session import ModelEvaluation
    from sft.cli.loaded_model import name_pair
    from sft.evaluation.engines import EngineChoice
    from sft.generation.installed import require_server
    from sft.tasks import TaskOptions, open_tasks

    choice = EngineChoice(
        name=args.engine,
        python=args.engine_python,
        url=args.engine_url,
        served_model=args.engine_model,
        arguments=tuple(args.engine_args),
    )
    if choice.url is None:
        require_server(choice.name, choice.python)
    options = TaskOptions(
        longbench_dir=args.longbench_dir,
        qmsum_dir=args.qmsum_dir,
        truthfulqa_file=args.truthfulqa_file,
        truthfulqa_scorer=args.truthfulqa_scorer,
        bleurt_checkpoint=args.bleurt_checkpoint,
    )
    tasks = open_tasks(args.tasks, options)
    if not tasks:
        raise ConfigError(f"--tasks {args.tasks!r} names no task. Name one, such as qmsum.")
    for task in tasks:
        task.examples()
    base, adapter = name_pair(args.model, args.adapter)
    if args.bits is not None and choice.is_served:
        raise ConfigError(
            f"--load_in_{args.bits}bit with --engine {args.engine}: a server holds weights in its own way. Use "
            "--engine in_process, or hand the server its own option with --engine_args."
        )
    return ModelEvaluation(
        base=base,
        adapter=adapter,
        tasks=tasks,
        choice=choice,
        samples=args.samples,
        folder=None if args.output is None else Path(args.output).expanduser(),
        max_prompt_tokens=args.max_prompt_tokens,
        chat_template=args.chat_template,
        template_kwargs=args.chat_template_kwargs,
        dtype=args.dtype,
        bits=args.bits,
        trust_remote_code=args.trust_remote_code,
    )


def _check_counts(args: argparse.Namespace) -> None:
    for name, least in (("samples", 1), ("max_prompt_tokens", 2)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name} is {value}, but it must be at least {least}.")


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return value


def _as_object(evaluation: ModelEvaluation, results: dict[str, Results]) -> dict[str, Any]:
    from sft.evaluation.table import is_combined
    from sft.tasks.combined import combined_score

    return {
        "model": evaluation.base,
        "adapter": evaluation.adapter,
        "tasks": {
            task: {
                "score": found["main_score"],
                "metric": found["main_metric"],
                "count": found["num_samples"],
                "scorer": found["scorer"],
                "engine": found["engine"],
                "results": found,
            }
            for task, found in results.items()
        },
        "combined_score": combined_score(results) if is_combined(results) else None,
    }


def _as_text(evaluation: ModelEvaluation, results: dict[str, Results]) -> str:
    from sft.evaluation.table import score_table

    lines = [f"{evaluation.adapter or evaluation.base}, answered by {evaluation.choice.name}", score_table(results)]
    if evaluation.folder is not None:
        lines.append(f"written: {evaluation.folder}")
    return "\n".join(lines)
