"""The same faults, ours and TRL's SFTTrainer: what each of them survives.

    python benchmarks/faults.py [--trials 5] [--seed 1] [--only WORDS] [--out docs/reliability.md]

Both train the same tiny model on the same rows in children of one process that has everything imported. A launch is
what a careful user writes: ours by its default, TRL's with ``train(resume_from_checkpoint=True)`` where the folder has
a checkpoint, and ``auto_find_batch_size`` where memory runs out. What counts as survived stands beside each fault. With
--out the table is put into that page, between its marks.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import torch
import transformers
import trl
from datasets import disable_progress_bars, load_dataset
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint
from trl import SFTConfig as TrlConfig
from trl import SFTTrainer

import sft
from sft.config import SFTConfig
from sft.training.run import run_training

STEPS, EVERY, KEPT = 12, 3, 3
MARKS = ("<!-- faults beside TRL -->", "<!-- end of faults beside TRL -->")
SIDES = ("ours", "trl")

Order = dict[str, Any]


# A run in a child: ``run_ours`` and ``run_trl`` take the same order.


def run_ours(order: Order) -> None:
    """By the product's defaults."""
    run_training(
        SFTConfig(
            model_name_or_path=order["model"],
            data_path=order["rows"],
            cache_dir=order["cache"],
            output_dir=order["folder"],
            max_length=128,
            max_steps=STEPS,
            per_device_train_batch_size=order.get("batch", 4),
            gradient_accumulation_steps=2,
            learning_rate=1e-3,
            logging_steps=1,
            save_steps=EVERY,
            save_total_limit=KEPT,
            seed=order.get("seed", 42),
        ),
        callbacks=callbacks(order),
    )


def run_trl(order: Order) -> None:
    """As its documentation shows it, resuming where there is something to resume from."""
    disable_progress_bars()
    folder = order["folder"]
    rows = load_dataset("json", data_files=order["rows"], split="train", cache_dir=order["cache"] + "-trl")
    trainer = SFTTrainer(
        model=Qwen3ForCausalLM.from_pretrained(order["model"]),
        processing_class=AutoTokenizer.from_pretrained(order["model"]),
        train_dataset=rows,
        args=TrlConfig(
            output_dir=folder,
            max_length=128,
            max_steps=STEPS,
            per_device_train_batch_size=order.get("batch", 4),
            gradient_accumulation_steps=2,
            learning_rate=1e-3,
            logging_steps=1,
            save_steps=EVERY,
            save_total_limit=KEPT,
            seed=order.get("seed", 42),
            report_to="none",
            use_cpu=True,
            bf16=False,
            auto_find_batch_size=order.get("what") == "memory",
        ),
        callbacks=callbacks(order),
    )
    last = get_last_checkpoint(folder) if Path(folder).is_dir() else None
    trainer.train(resume_from_checkpoint=True if last else None)
    trainer.save_model(folder + "/final_model")


RUNS: dict[str, Callable[[Order], None]] = {"ours": run_ours, "trl": run_trl}


class Strike(TrainerCallback):  # type: ignore[misc]
    """Something happens in one step: ``nan`` (its loss), ``memory`` (four rows at once are too many), ``sigterm``;
    or after each save: ``clock``."""

    def __init__(self, order: Order) -> None:
        self.what, self.step, self.delay = order["what"], order.get("step", 0), order.get("delay", 0.0)
        self.hook: Any = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.end()
        if state.global_step + 1 == self.step and self.what in ("nan", "memory"):
            self.hook = kwargs["model"].get_input_embeddings().register_forward_hook(self.strike)

        if state.global_step + 1 == self.step and self.what == "sigterm":
            threading.Timer(self.delay, os.kill, (os.getpid(), signal.SIGTERM)).start()

    def strike(self, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if self.what == "nan":
            return output * math.nan
        if output.shape[0] >= 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return output

    def end(self) -> None:
        if self.hook is not None:
            self.hook.remove()
            self.hook = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.end()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.what == "clock":
            for path in Path(args.output_dir).glob("checkpoint-*"):
                earlier = 1_000_000_000 - 3600 * int(path.name.split("-")[1])
                os.utime(path, (earlier, earlier))


class Tell(TrainerCallback):  # type: ignore[misc]
    """Writes down the last finished step, outside of the run folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        Path(self.path).write_text(str(state.global_step))


def callbacks(order: Order) -> list[TrainerCallback]:
    """What an order asks for."""
    return [*([Strike(order)] if "what" in order else []), *([Tell(order["tell"])] if "tell" in order else [])]


@dataclass
class Ended:
    """What became of a child."""

    error: str | None
    signal: int
    seconds: float


def start(side: str, order: Order, answer: Path) -> int:
    """Fork a child that runs; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        answer.write_text(json.dumps(attempt(side, order)))
    finally:
        os._exit(0)  # whatever happens, no line of the parent runs here


def attempt(side: str, order: Order) -> str | None:
    """The run, in the child; its error."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if limit := order.get("limit"):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
        RUNS[side](order)
    except BaseException as failed:
        return f"{type(failed).__name__}: {failed}" if str(failed) else traceback.format_exc()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    return None


def run(side: str, order: Order, *, after: float | None = None, number: int = signal.SIGKILL) -> Ended:
    """Run to the end, or until a signal ``after`` seconds."""
    answer = Path(order["folder"] + ".answer")
    answer.unlink(missing_ok=True)
    begun = time.monotonic()
    child = start(side, order, answer)
    timer = threading.Timer(after, os.kill, (child, number)) if after is not None else None
    if timer:
        timer.start()
    _, status = os.waitpid(child, 0)
    if timer:
        timer.cancel()
    error = json.loads(answer.read_text()) if answer.exists() else "it died"
    return Ended(error, os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, time.monotonic() - begun)


# The bench: a model, rows, and for each side a run that nothing happened to.


class Bench:
    """Where runs are made; ``order(side)`` is a fresh folder's."""

    def __init__(self, folder: Path, seed: int, trials: int) -> None:
        self.folder, self.trials, self.seed = folder, trials, seed
        self.model = make_model(folder / "model")
        self.rows = folder / "rows.jsonl"
        write_rows(self.rows, 40)
        self.count = 0
        self.weights: dict[str, dict[str, torch.Tensor]] = {}
        self.seconds: dict[str, float] = {}
        for side in SIDES:
            for _ in range(2):  # the first fills caches
                order = self.order(side)
                ended = run(side, order)
                assert ended.error is None, f"{side}: {ended.error}"
            self.weights[side], self.seconds[side] = weights(order["folder"]), ended.seconds

    def order(self, side: str, **more: Any) -> Order:
        """What to run, in a folder of its own."""
        self.count += 1
        folder = str(self.folder / f"{side}-{self.count}")
        return {
            "model": str(self.model), "rows": str(self.rows), "cache": str(self.folder / "cache"), "folder": folder,
            **more,
        }  # fmt: skip

    def straight(self, side: str, order: Order) -> bool:
        """Whether a run ended with the weights of the one that nothing happened to, bit for bit."""
        found, expected = weights(order["folder"]), self.weights[side]
        return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)

    def goes_on(self, side: str, order: Order) -> bool:
        """Whether the same command, once more, ends with those weights."""
        again = {name: value for name, value in order.items() if name not in ("limit", "what")}
        return run(side, again).error is None and self.straight(side, order)

    def chance(self, fault: str) -> random.Random:
        """The same for both sides."""
        return random.Random(f"{self.seed} {fault}")


def weights(folder: str) -> dict[str, torch.Tensor]:
    """Of the final model."""
    path = Path(folder) / "final_model" / "model.safetensors"
    return load_file(path) if path.exists() else {}


def newest(folder: str) -> Path | None:
    """The checkpoint of the highest step."""
    found = sorted(Path(folder).glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return found[-1] if found else None


# Faults: each gives True or False for every trial.


def kill(bench: Bench, side: str) -> Iterator[bool]:
    chosen = bench.chance("kill")
    for _ in range(bench.trials):
        order = bench.order(side)
        for _ in range(3):
            run(side, order, after=bench.seconds[side] * (0.15 + 0.8 * chosen.random()))
        yield bench.goes_on(side, order)


def damage(bench: Bench, side: str) -> Iterator[bool]:
    chosen, model = bench.chance("damage"), bench.order(side)
    run(side, model)
    shutil.rmtree(Path(model["folder"]) / "final_model")
    shutil.rmtree(Path(model["folder"]) / f"checkpoint-{STEPS}")  # as if it had been stopped after the third
    checkpoint = newest(model["folder"])
    assert checkpoint is not None
    for name in sorted(str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()):
        order = bench.order(side)
        shutil.copytree(model["folder"], order["folder"])
        path = Path(order["folder"]) / checkpoint.name / name
        data = bytearray(path.read_bytes())
        how = chosen.randrange(4)
        if how == 0:
            path.unlink()
        elif how == 1:
            path.write_bytes(b"")
        elif how == 2:
            path.write_bytes(data[: len(data) // 2])
        else:
            data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
            path.write_bytes(data)
        yield bench.goes_on(side, order)


def nan(bench: Bench, side: str) -> Iterator[bool]:
    chosen = bench.chance("nan")
    for _ in range(bench.trials):
        order = bench.order(side, what="nan", step=chosen.randint(2, STEPS - 1))
        ended, found = run(side, order), weights(order["folder"])
        yield ended.error is None and bool(found) and all(bool(value.isfinite().all()) for value in found.values())


def sigterm(bench: Bench, side: str) -> Iterator[bool]:
    chosen = bench.chance("sigterm")
    for _ in range(bench.trials):
        order = bench.order(side, what="sigterm", step=chosen.randint(1, STEPS - 1), delay=chosen.uniform(0, 0.05))
        order["tell"] = order["folder"] + ".step"
        Path(order["tell"]).write_text("0")
        run(side, order)
        step, saved = int(Path(order["tell"]).read_text()), newest(order["folder"])
        is_saved = saved is not None and int(saved.name.split("-")[1]) >= step
        yield is_saved and bench.goes_on(side, order)


def memory(bench: Bench, side: str) -> Iterator[bool]:
    chosen = bench.chance("memory")
    for _ in range(bench.trials):
        order = bench.order(side, what="memory", step=chosen.randint(2, STEPS - 1))
        ended, found = run(side, order), weights(order["folder"])
        expected = bench.weights[side]
        near = bool(found) and all(torch.allclose(found[name], expected[name], atol=1e-5) for name in expected)
        yield ended.error is None and near


def changed(bench: Bench, side: str) -> Iterator[bool]:
    other = bench.folder / "other.jsonl"
    write_rows(other, 30, word="say")
    for change in ({"rows": str(other)}, {"seed": 7}, {"batch": 2}):
        order = bench.order(side)
        run(side, order, after=bench.seconds[side] * 10)
        shutil.rmtree(Path(order["folder"]) / "final_model", ignore_errors=True)
        shutil.rmtree(newest(order["folder"]) or "", ignore_errors=True)  # as if it had been killed before its end
        ended = run(side, {**order, **change})
        yield ended.error is not None and ended.signal == 0


QUESTION, ANSWER = b'{"role": "user", "content": "a"}', b'{"role": "assistant", "content": "b"}'
BAD_LINES: dict[str, bytes] = {
    "cut off": b'{"messages": [{"role": "user", "content": "a',
    "no UTF-8": b'{"messages": [{"role": "user", "content": "\xff"}, {"role": "assistant", "content": "b"}]}',
    "half a character": b'{"messages": [{"role": "user", "content": "\\ud800"}, ' + ANSWER + b"]}",
    "nested 100,000 deep": b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a key twice": b'{"messages": [], "messages": [' + QUESTION + b", " + ANSWER + b"]}",
    "no messages": b'{"id": 7}',
    "null": b'{"messages": null}',
    "no turns": b'{"messages": []}',
    "content a number": b'{"messages": [{"role": "user", "content": 7}, {"role": "assistant", "content": "b"}]}',
    "content null": b'{"messages": [{"role": "user", "content": null}, {"role": "assistant", "content": "b"}]}',
    "unknown role": b'{"messages": [{"role": "wizard", "content": "a"}, {"role": "assistant", "content": "b"}]}',
    "empty answer": b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]}',
    "no answer": b'{"messages": [' + QUESTION + b"]}",
}


def rows(bench: Bench, side: str) -> Iterator[bool]:
    for number, line in enumerate(BAD_LINES.values()):
        path = bench.folder / f"bad-{number}.jsonl"
        write_rows(path, 20)
        path.write_bytes(path.read_bytes() + line + b"\n")
        ended = run(side, bench.order(side, rows=str(path)))
        yield ended.error is not None and path.name in ended.error and "21" in ended.error.split(path.name)[1][:12]


def full_disk(bench: Bench, side: str) -> Iterator[bool]:
    size = max(path.stat().st_size for path in (bench.model).glob("*.safetensors"))
    for limit in (size // 2, size + 1000):  # weights, or the optimizer's state, find no room
        order = bench.order(side, limit=limit)
        ended = run(side, order)
        yield ended.signal == 0 and bench.goes_on(side, order)


def two_runs(bench: Bench, side: str) -> Iterator[bool]:
    for _ in range(bench.trials):
        order = bench.order(side)
        answers = [Path(order["folder"] + f".{number}") for number in range(2)]
        children = [start(side, order, answer) for answer in answers]
        for child in children:
            os.waitpid(child, 0)
        errors = [json.loads(answer.read_text()) if answer.exists() else "died" for answer in answers]
        refused = [error for error in errors if error is not None]
        told = len(refused) == 1 and any(word in refused[0] for word in ("in use", "another", "lock"))
        yield told and bench.straight(side, order)


def clock(bench: Bench, side: str) -> Iterator[bool]:
    order = bench.order(side, what="clock")
    run(side, order)
    kept = {path.name for path in Path(order["folder"]).glob("checkpoint-*")}
    yield kept == {f"checkpoint-{STEPS - EVERY * back}" for back in range(KEPT)}


FAULTS: dict[str, tuple[str, Callable[[Bench, str], Iterator[bool]]]] = {
    "kill -9 at random times, three times a run": ("the same command ends with the same weights, bit for bit", kill),
    "each file of the newest checkpoint cut, emptied, deleted or changed by a bit": ("the same", damage),
    "the loss of one step is NaN": ("the trained model is finite", nan),
    "SIGTERM at random times": ("the step that was reached is saved; the same weights in the end", sigterm),
    "out of memory in one step": ("weights within 1e-5 of those without it", memory),
    "other data, seed or batch size when going on": ("refused", changed),
    "one row of a file is wrong, in 13 ways": ("refused with file and line", rows),
    "no room for a file of a checkpoint, later room again": ("the same command ends with the same weights", full_disk),
    "two runs in one folder": ("one is told of the other, which ends with the same weights", two_runs),
    "the clock goes back while checkpoints are written": ("the three newest are kept", clock),
}


def make_model(folder: Path) -> Path:
    """Two layers, and a tokenizer of bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["one two three"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, tie_word_embeddings=True, max_position_embeddings=512,
        eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def write_rows(path: Path, count: int, word: str = "count to") -> None:
    """Questions and answers of different lengths."""
    with path.open("w") as file:
        for number in range(1, count + 1):
            turns = [
                {"role": "user", "content": f"{word} {number}"},
                {"role": "assistant", "content": " ".join(map(str, range(1, number % 9 + 2)))},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")


def table(found: dict[str, dict[str, tuple[int, int]]]) -> str:
    """A fault a line."""
    lines = ["| fault | survived means | ours | TRL |", "|---|---|---|---|"]
    for fault, sides in found.items():
        cells = [f"{sides[side][0]} of {sides[side][1]}" for side in SIDES]
        lines.append(f"| {fault} | {FAULTS[fault][0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Try all faults on both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5, help="of each fault that is a matter of chance")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="faults whose names hold these words")
    parser.add_argument("--out", type=Path, default=None, help="a page that has the marks of this table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    found: dict[str, dict[str, tuple[int, int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.seed, args.trials)
        for fault, (_, attempt) in FAULTS.items():
            if args.only not in fault:
                continue
            for side in SIDES:
                outcomes = list(attempt(bench, side))
                found.setdefault(fault, {})[side] = (sum(outcomes), len(outcomes))
                print(f"{side:<5} {sum(outcomes):>3} of {len(outcomes):<3} {fault}", file=sys.stderr, flush=True)
    what = (
        f"sft-kit {sft.__version__}, TRL {trl.__version__}, transformers {transformers.__version__}, torch "
        f"{torch.__version__}, on a CPU, {date.today()}; seed {args.seed}, {args.trials} trials of what is chance."
    )
    text = f"{table(found)}\n\n{what}"
    print(text)
    if args.out is not None:
        page = args.out.read_text(encoding="utf-8")
        before, after = page.split(MARKS[0])[0], page.split(MARKS[1])[1]
        args.out.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
