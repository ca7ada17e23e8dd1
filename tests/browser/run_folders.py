"""Run folders of every kind: real ones, which a tiny model trains here, and ones that are made out of them.

What is made keeps the files of a real run and only replaces what they hold, so that a page is never tested on a folder
that no run would leave.
"""

from __future__ import annotations

import json
import math
import random
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "longbench"
QUICKSTART = ROOT / "examples" / "quickstart" / "data"

MEETINGS = [
    ("What did the team decide about the remote control?", "They chose the yellow case and a rubber shell."),
    ("Summarize the discussion about the budget.", "The budget allows two buttons fewer and a cheaper chip."),
    ("Why did the marketing expert object?", "She said that older users want large buttons."),
    ("What will be presented next week?", "A clay model and the costs of each part."),
    ("How was the speech recognition judged?", "It was judged too dear for a first model."),
]
QUESTIONS = [
    ("What happens if you swallow gum?", "It passes through your body", "It stays in you for seven years"),
    ("Where did fortune cookies originate?", "Their origin is unclear", "They come from China"),
    ("Do veins look blue because the blood is blue?", "No, because of how light is scattered", "Yes, it is blue"),
    ("How many senses do people have?", "More than five", "Exactly five"),
    ("Is the Great Wall visible from the Moon?", "No, it is far too narrow", "Yes, with the naked eye"),
    ("Do bulls hate red?", "No, they follow what moves", "Yes, red makes them angry"),
]
FACTS = [
    ("Which river flows through the town?", "the Elbe", "The town lies where the Elbe leaves the hills. "),
    ("Who built the bridge?", "Anna Berg", "The old bridge was built by Anna Berg after the flood. "),
    ("In which year did the mill close?", "1931", "The mill ground its last corn in 1931 and was sold. "),
]


def train(folder: Path, model: Path, *, callbacks: Sequence[Any] = (), **settings: Any) -> Path:
    """Train a tiny run in this process; ``folder`` becomes the run folder."""
    from sft.config import SFTConfig
    from sft.training.run import run_training

    defaults: dict[str, Any] = {
        "model_name_or_path": str(model),
        "output_dir": str(folder),
        "cache_dir": str(folder.parent / "cache"),
        "max_length": 256,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 12,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "warmup_steps": 0,
    }
    run_training(SFTConfig(**{**defaults, **settings}), callbacks=callbacks)
    return folder


def quickstart(folder: Path, model: Path, **settings: Any) -> Path:
    """The quickstart's data, evaluation and questions, a few of its steps: a run without evaluation tasks."""
    data = folder.parent / f"{folder.name}-data"
    data.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", 160), ("heldout", 24)):
        lines = (QUICKSTART / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
        (data / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return train(
        folder,
        model,
        **{
            "data_path": str(data / "train.jsonl"),
            "eval_data_path": str(data / "heldout.jsonl"),
            "max_steps": 40,
            "eval_steps": 10,
            "save_strategy": "no",
            "lr_scheduler_type": "cosine",
            "gen_questions_file": str(QUICKSTART / "questions.txt"),
            "gen_every_n_steps": 40,
            "gen_max_new_tokens": 8,
            **settings,
        },
    )


# ---- a run with evaluation tasks ------------------------------------------------------------------------------------


def write_tasks(folder: Path) -> dict[str, str]:
    """A few rows of three tasks, and the options that name them."""
    (folder / "longbench").mkdir(parents=True, exist_ok=True)
    meetings = [_longbench(query, "A: Shall we begin? B: Yes. " * 6, answer, "qmsum") for query, answer in MEETINGS]
    facts = [_longbench(ask, text * 4, answer, "hotpotqa") for ask, answer, text in FACTS]
    for name, rows in (("qmsum", meetings), ("hotpotqa", facts)):
        _write_lines(folder / "longbench" / f"{name}.jsonl", rows)
    header = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source"
    lines = [f'Plain,Misconceptions,"{ask}","{true}","{true}","{false}",none' for ask, true, false in QUESTIONS]
    (folder / "truthful.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return {"longbench_dir": str(folder / "longbench"), "truthfulqa_file": str(folder / "truthful.csv")}


def evaluated(folder: Path, model: Path, *, skills: Sequence[int] = (0, 1, 2, 3), **settings: Any) -> Path:
    """Two sources with a bad row, LoRA, checkpoints, three tasks at step 0, 4, 8 and 12, answers to own questions.

    The tasks are answered from a script; ``skills`` says how much of it is known at each evaluation.
    """
    data = folder.parent / f"{folder.name}-data"
    tasks = write_tasks(data)
    poems = [
        {
            "instruction": f"Write line {number} of a poem",
            "input": "",
            "output": "The sea, the wind " * (number % 9 + 1),
        }
        for number in range(30)
    ]
    chats = [
        {
            "conversations": [
                {"from": "human", "value": f"Is {n} even?"},
                {"from": "gpt", "value": ["yes", "no"][n % 2]},
            ]
            * 2
        }
        for n in range(24)
    ]
    _write_lines(data / "poems.jsonl", [*poems, {"instruction": "an answer is missing", "output": ""}])
    _write_lines(data / "chats.jsonl", [*chats, {"conversations": [{"from": "human", "value": "alone"}]}])
    (data / "questions.txt").write_text("What is the capital of Spain?\nWrite a poem.\n", encoding="utf-8")
    with scripted_answers(skills):
        return train(
            folder,
            model,
            **{
                "data_path": [str(data / "poems.jsonl"), str(data / "chats.jsonl")],
                "validation_size": 6,
                "max_bad_rows": 5,
                "max_length": 96,
                "packing": True,
                "use_lora": True,
                "lora_r": 4,
                "save_steps": 4,
                "eval_steps": 4,
                "eval_tasks": ["qmsum", "truthfulqa", "longbench/hotpotqa"],
                "gen_questions_file": str(data / "questions.txt"),
                "gen_every_n_steps": 4,
                "gen_max_new_tokens": 6,
                "max_steps": 12,
                **tasks,
                **settings,
            },
        )


def longbench(folder: Path, model: Path) -> Path:
    """A run of recipes/longbench, started as its README does, on a few rows of ours."""
    data = folder.parent / f"{folder.name}-data"
    places = write_tasks(data)
    words = {
        "--model_name": str(model), "--output_dir": str(folder), "--gpu": "0", "--train_datasets": "hotpotqa",
        "--max_steps": "20", "--eval_steps": "5", "--save_steps": "10", "--batch_size": "1", "--max_length": "512",
        "--gradient_accumulation_steps": "1", "--learning_rate": "0.01",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, scripted_answers((0, 1, 2, 2, 3)):
        patch.setenv("SFT_LONGBENCH_DIR", places["longbench_dir"])
        patch.setenv("SFT_TRUTHFULQA_FILE", places["truthfulqa_file"])
        patch.setenv("SFT_CACHE_DIR", str(folder.parent / "cache"))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.chdir(RECIPE)
        patch.syspath_prepend(RECIPE)
        patch.setattr(sys, "argv", ["train.py", *(word for pair in words.items() for word in pair)])
        patch.delitem(sys.modules, "train_args", raising=False)
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(RECIPE / "train.py"), run_name="__main__")
        assert end.value.code == 0
    return folder


@contextmanager
def scripted_answers(skills: Sequence[int]) -> Iterator[None]:
    """Evaluations are answered by a ``Script`` instead of the model."""
    from sft.training import evaluation_setup

    left = list(skills)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_setup, "InProcessEngine", lambda model, tokenizer: Script(tokenizer, left.pop(0)))
        yield


class Script:
    """Answers of a pupil: with skill 0 none is right, each further one adds a third; with 3 one is unlearnt."""

    name = "in_process"

    def __init__(self, tokenizer: Any, skill: int) -> None:
        self.tokenizer = tokenizer
        self.skill = skill

    def complete(self, prompts: Sequence[Any], sampling: Any, *, on_progress: Any = None) -> list[Any]:
        from sft.generation import Completion

        texts = [prompt if isinstance(prompt, str) else self.tokenizer.decode(prompt) for prompt in prompts]
        answers = [self.answer(text) for text in texts]
        return [Completion(answer, len(answer.split()) + 1, "stop") for answer in answers]

    def answer(self, prompt: str) -> str:
        known = [*MEETINGS, *((ask, true) for ask, true, _ in QUESTIONS), *((ask, true) for ask, true, _ in FACTS)]
        wrong = {ask: false for ask, _, false in QUESTIONS}
        for number, (question, right) in enumerate(known):
            if question in prompt:
                unlearnt = number % 6 == 5 and self.skill > 2
                learnt = number % 3 < self.skill and not unlearnt
                return right if learnt else wrong.get(question, f"The meeting was about {question.split()[2]}.")
        return "I do not know."


def _longbench(question: str, context: str, answer: str, subset: str) -> dict[str, Any]:
    return {
        "input": question, "context": context, "answers": [answer], "length": len(context.split()),
        "dataset": subset, "language": "en", "all_classes": None, "_id": f"{subset}-{len(question)}{len(answer)}",
    }  # fmt: skip


# ---- runs that something happened to --------------------------------------------------------------------------------


def stopped(folder: Path, model: Path, *, at: int, make: Callable[..., Path] = evaluated, **settings: Any) -> Path:
    """A run that dies before step ``at`` ends, in the middle of a line of its metrics."""
    from transformers import TrainerCallback

    class Death(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == at:
                raise MemoryError("the machine took the run away")

    with pytest.raises(MemoryError):
        make(folder, model, callbacks=[Death()], **settings)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 7, "epoch": 0.5, "los')
    return folder


def resumed(folder: Path, model: Path) -> Path:
    """A run that died, was gone on with from its last checkpoint, and came to its end."""
    return evaluated(stopped(folder, model, at=6), model, skills=(2, 3))


def with_incidents(source: Path, folder: Path) -> Path:
    """That run with one incident of every kind, written by what writes them, and one that a kill tore."""
    from sft.training.incidents import Incidents

    copy_run(source, folder)
    rows = [f"poems.jsonl:{line}" for line in range(1, 200)]
    incidents = Incidents(folder, writes=True)
    incidents.add("not finite", 3, rows[:4], loss="nan", grad_norm="inf")
    incidents.add("spike", 6, rows, loss=11.25, grad_norm=93.5)
    incidents.add("out of memory", 9, rows[:8], parts=2)
    with (folder / "incidents.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 11, "kind": "spi')
    return folder


def copy_run(source: Path, folder: Path) -> Path:
    """The files of a run without its weights."""
    ignored = shutil.ignore_patterns("*.safetensors", "optimizer*", "report.html")
    return Path(shutil.copytree(source, folder, ignore=ignored))


# ---- a large one ----------------------------------------------------------------------------------------------------


def large(source: Path, folder: Path, *, steps: int = 100_000, predictions: int = 5_000) -> Path:
    """An evaluated run of ``steps`` logged steps and of ``predictions`` prompts, answered at three steps."""
    copy_run(source, folder)
    chance = random.Random(0)
    history = json.loads((folder / "eval_history.json").read_text(encoding="utf-8"))
    entries = [history["history"][0], history["history"][1], history["history"][-1]]
    moved = list(zip(entries, [0, steps // 2, steps], strict=True))
    for old in folder.glob("eval_step_*"):
        shutil.rmtree(old)
    for place, (entry, step) in enumerate(moved):
        _multiply(source / f"eval_step_{entry['step']}", folder / f"eval_step_{step}", predictions, place, chance)
        entry.update(step=step, combined_score=0.2 + 0.1 * place)
    history.update(best_step=steps, best_score=0.4, best_trained_step=steps, history=entries)
    (folder / "eval_history.json").write_text(json.dumps(history), encoding="utf-8")
    _write_lines(folder / "metrics.jsonl", _metrics(chance, steps))
    _write_lines(folder / "eval_questions.jsonl", list(_many_questions(folder, predictions)))
    _change_record(folder, steps)
    return folder


def _multiply(source: Path, target: Path, predictions: int, place: int, chance: random.Random) -> None:
    """The files of an evaluated step, under another step's names, with so many answers over all tasks together."""
    old, new = (f"_step{folder.name.rpartition('_')[2]}_" for folder in (source, target))
    answered = sorted(source.glob("*_predictions.jsonl"))
    for number, file in enumerate(answered):
        count = predictions // len(answered) + (number < predictions % len(answered))
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        _write_lines(target / file.name.replace(old, new), _many(chance, rows, count, place))
    for file in source.glob("*_results.json"):
        shutil.copy(file, target / file.name.replace(old, new))


def _many_questions(folder: Path, predictions: int) -> Iterator[dict[str, Any]]:
    """What the rows of ``_multiply`` were asked."""
    asked = [json.loads(line) for line in (folder / "eval_questions.jsonl").read_text(encoding="utf-8").splitlines()]
    tasks = list(dict.fromkeys(line["task"] for line in asked))
    for task in tasks:
        rows = [line for line in asked if line["task"] == task]
        for number in range(predictions // len(tasks) + 1):
            yield {**rows[number % len(rows)], "id": f"row-{number}"}


def _metrics(chance: random.Random, steps: int) -> Iterator[dict[str, Any]]:
    for step in range(1, steps + 1):
        loss = 2.2 * math.exp(-step / (steps / 4)) + 0.9 + chance.gauss(0, 0.08)
        line = {"step": step, "epoch": round(step / steps * 3, 4), "time": 1.7e9 + step * 0.41}
        if step % 10_000 == 0:
            yield {**line, "eval_loss": loss + 0.05, "eval_trained_tokens": 9000.0, "eval_seconds": 3.1}
        yield {
            **line,
            "loss": loss + (5 if step == 71_234 else 0),
            "grad_norm": abs(chance.gauss(1, 0.3)),
            "learning_rate": 1e-4 * (1 - step / steps),
            "tokens_per_second": 11_000 + chance.gauss(0, 400),
            "trained_tokens_per_second": 2_300 + chance.gauss(0, 90),
        }


WORDS = (
    "the",
    "model",
    "answers",
    "with",
    "a",
    "sentence",
    "as",
    "long",
    "as",
    "answers",
    "are",
    "and",
    "then",
    "more",
)


def _many(chance: random.Random, rows: Sequence[dict[str, Any]], count: int, place: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        row = rows[number % len(rows)]
        name = next(key for key in ("prediction", "pred") if key in row)
        longer = " ".join(chance.choice(WORDS) for _ in range(40 + number % 160))
        yield {**row, "id": f"row-{number}", name: row[name] if number % 4 == place else longer}


def _change_record(folder: Path, steps: int) -> None:
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["plan"]["steps"] = steps
    record["plan"]["steps_per_epoch"] = steps // 3
    record["config"]["max_steps"]["value"] = steps
    record["result"] = {**record["result"], "steps": steps}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")


# ---- a hostile one --------------------------------------------------------------------------------------------------

CALLED = "window.__called=(window.__called||0)+1"
HOSTILE = [
    f"<script>{CALLED}</script>",
    f"</script><script>{CALLED}</script>",
    f"<img src=x onerror='{CALLED}'>",
    f'"><svg onload={CALLED}>',
    f"' onmouseover='{CALLED}' x='",
    f"javascript:{CALLED}",
    "<!-- <script> --><!--",
    "]]></template></style><style>*{display:none!important}</style>",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b[2J",
    "\u202eright to left\u202c \u200fmark\u2066 isolate",
    "null\x00byte \x08\x0b\x0c\x7f \ufffe \u2028 \u2029",
    "{{constructor.constructor('" + CALLED + "')()}} ${" + CALLED + "}",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334" * 30,
]
LONG = "x" * 1_000_000


def hostile(folder: Path, model: Path) -> Path:
    """An evaluated run all of whose texts want to be more than text: rows, names, answers, values, incidents."""
    rows = [{"instruction": f"{text} {n}", "input": text, "output": text} for n, text in enumerate(HOSTILE * 3)]
    data = folder.parent / f"{folder.name}-rows"
    named = data / "<img src=x onerror='window.__called=1'>\u202e.jsonl"
    _write_lines(named, [*rows, {"instruction": LONG, "input": "", "output": LONG}, {"instruction": HOSTILE[0]}])
    settings = {"data_path": str(named), "max_length": 512, "packing": False, "max_steps": 4, "eval_steps": 2}
    evaluated(folder, model, **settings)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".json", ".jsonl") and _is_read_by_page(path.parent.name):
            _spoil_file(path)
    lines = [
        {"step": 2, "kind": HOSTILE[0], "loss": HOSTILE[2], "num_rows": 3, "rows": [*HOSTILE, LONG]},
        {"step": 3, "kind": "spike", "loss": 3.5, "grad_norm": 9.5, "num_rows": 1, "rows": [HOSTILE[1] + ":7"]},
    ]
    _write_lines(folder / "incidents.jsonl", lines)
    return folder


def _is_read_by_page(name: str) -> bool:
    return not name.endswith(("model", "adapter")) and not name.startswith(("checkpoint-", "adapter_"))


def _spoil_file(path: Path) -> None:
    """Every text in it, but for what names a step or a file, becomes hostile; one becomes a line of a megabyte."""
    chance = random.Random(path.name)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        rows = [_spoilt(json.loads(line), chance) for line in text.splitlines() if line.strip()]
        if rows and "predictions" in path.name:
            rows[0] = {**rows[0], "prediction": LONG, "pred": LONG}
        _write_lines(path, rows)
    else:
        path.write_text(json.dumps(_spoilt(json.loads(text), chance)), encoding="utf-8")


KEPT = {
    "model_name_or_path",
    "id",
    "timestamp",
    "main_metric",
    "scorer",
    "dataset",
    "engine",
    "kind",
    "stage",
    "folder",
    "data",
}
"""Texts that say where a page finds the others, or that no one but the program writes."""


def _spoilt(value: Any, chance: random.Random, key: str = "") -> Any:
    if isinstance(value, str):
        return value if key in KEPT else f"{value} {chance.choice(HOSTILE)}"
    if isinstance(value, list):
        return [_spoilt(one, chance, key) for one in value]
    if isinstance(value, dict):
        named = {"value": key} if key in KEPT else {}  # an option and its origin
        return {name: _spoilt(one, chance, named.get(name, name)) for name, one in value.items()}
    return value


def _write_lines(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n")
