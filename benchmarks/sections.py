"""What the page says of each benchmark: its title, its columns, and what its figures are held to."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rounds import Result, column

OURS = "ours"


@dataclass(frozen=True)
class Column:
    """One figure of a contestant."""

    key: str
    heading: str
    form: str


@dataclass(frozen=True)
class Goal:
    """What a figure is held to."""

    text: str
    least: float
    value: Callable[[dict[str, Result]], float | None]
    """From the parts of a result, by title; None where it was not measured."""


@dataclass(frozen=True)
class Section:
    """One benchmark on the page."""

    name: str
    """Of its result file."""
    title: str
    text: str
    command: str
    columns: Sequence[Column]
    """The first one is compared."""
    more_is_better: bool = False
    baseline: str = OURS
    goals: Sequence[Goal] = field(default=())


def middle(part: Result | None, name: str, key: str) -> float | None:
    """A contestant's median; None where it was not measured."""
    found = column(part["measured"].get(name, []), key) if part else []
    return statistics.median(found) if found else None


def quotient(over: float | None, under: float | None) -> float | None:
    """None where one of them was not measured."""
    return None if over is None or not under else over / under


def part_of(parts: dict[str, Result], words: str) -> Result | None:
    """The part whose title holds some words; None where it was not measured."""
    return next((part for title, part in parts.items() if words in title), None)


def slower(words: str, name: str, key: str = "seconds") -> Callable[[dict[str, Result]], float | None]:
    """How many times as long as ours."""
    return lambda parts: quotient(middle(part_of(parts, words), name, key), middle(part_of(parts, words), OURS, key))


def faster_than(words: str, names: Sequence[str], key: str) -> Callable[[dict[str, Result]], float | None]:
    """Our rate over the best of theirs; None unless all of them were measured."""

    def value(parts: dict[str, Result]) -> float | None:
        part = part_of(parts, words)
        rates = [middle(part, name, key) for name in names]
        known = [rate for rate in rates if rate is not None]
        return quotient(middle(part, OURS, key), max(known)) if len(known) == len(names) else None

    return value


def best_preparation(parts: dict[str, Result]) -> float | None:
    """The quickest other program at its best number of workers, over ours."""
    part = next(iter(parts.values()), None)
    others = [middle(part, name, "seconds") for name in (part or {"measured": {}})["measured"] if name != OURS]
    return quotient(min((one for one in others if one is not None), default=None), middle(part, OURS, "seconds"))


def under(limit: float, words: str, name: str, key: str = "seconds") -> Callable[[dict[str, Result]], float | None]:
    """A limit over what was measured: at least 1 where it is kept."""
    return lambda parts: quotient(limit, middle(part_of(parts, words), name, key))


def within(times: float, words: str, name: str) -> Callable[[dict[str, Result]], float | None]:
    """So many times their seconds, over ours: at least 1 where it is kept."""
    ratio = slower(words, name)

    def value(parts: dict[str, Result]) -> float | None:
        found = ratio(parts)
        return None if found is None else times * found

    return value


def first_step_ratio(parts: dict[str, Result]) -> float | None:
    """1.3 times the bare imports over our time to the first step: at least 1 where it is kept."""
    part = part_of(parts, "first step")
    bare = middle(part, "imports alone", "seconds")
    return quotient(None if bare is None else 1.3 * bare, middle(part, OURS, "seconds"))


PEERS_PADDED = ("TRL", "LLaMA-Factory", "LLaMA-Factory, neat packing", "axolotl", "ms-swift")

GENERATE = "transformers generate, file order"
MISTAKE = "sft train, a mistake in the file"
PLAN = "sft plan --config_only"

SECTIONS = (
    Section(
        "preparation",
        "Data preparation",
        """From JSON lines on disk to packed rows of 512 tokens and masks: Alpaca's rows, Qwen3's tokenizer, imports
        and the loading of the tokenizer left out. All arrive at the same tokens and trained tokens (LLaMA-Factory
        trains the line break after an answer too). *Again*: everything is in the program's own cache.""",
        "python benchmarks/preparation.py --data alpaca_data.json --tokenizer FOLDER",
        (
            Column("seconds", "seconds", "{:.2f}"),
            Column("again", "again", "{:.2f}"),
            Column("packed_rows", "packed rows", "{:,.0f}"),
        ),
        goals=(
            Goal("9 times as fast as TRL in one process", 9, slower("packed rows", "TRL")),
            Goal("4 times as fast as the best of the others", 4, best_preparation),
            Goal("found in the cache within 0.1 s (1 = just)", 1, under(0.1, "packed rows", OURS, "again")),
        ),
    ),
    Section(
        "training_step",
        "A training step",
        """Tokens that are no padding per second, in steps of 8 rows of at most 512 tokens: Qwen3's architecture, 8
        layers of width 256, a vocabulary of 32,000, AdamW, no gradient checkpointing, answers only. Ours packs,
        each document attending to itself alone; TRL, LLaMA-Factory, axolotl and ms-swift pad, as they do by
        default; the packing of axolotl and ms-swift wants FlashAttention, which no CPU has.""",
        "python benchmarks/training_step.py --data alpaca_data.json",
        (
            Column("tokens_per_second", "tokens/s", "{:,.0f}"),
            Column("step_seconds", "seconds a step", "{:.2f}"),
        ),
        more_is_better=True,
        goals=(
            Goal("full, float32: 5 times TRL", 5, faster_than("float32", ["TRL"], "tokens_per_second")),
            Goal("full, float32: 2.5 times the best", 2.5, faster_than("float32", PEERS_PADDED, "tokens_per_second")),
            Goal("full, bfloat16: 5 times TRL", 5, faster_than("bfloat16", ["TRL"], "tokens_per_second")),
            Goal("LoRA: 4 times TRL", 4, faster_than("LoRA", ["TRL"], "tokens_per_second")),
        ),
    ),
    Section(
        "loss_memory",
        "Memory of the loss",
        """One forward and backward pass of a model of two layers with a vocabulary of 151,936 over 4,096 tokens, of
        which 55 % are trained; memory above that of the same pass without a head.""",
        "python benchmarks/loss_memory.py",
        (
            Column("gigabytes", "GB above the floor", "{:.2f}"),
            Column("seconds", "seconds", "{:.1f}"),
        ),
        goals=(
            Goal("at most 0.4 GB above the floor (1 = just)", 1, under(0.4, "float32", OURS, "gigabytes")),
            Goal("2.5 times as fast as full logits", 2.5, slower("float32", "transformers")),
        ),
    ),
    Section(
        "generation",
        "Generation",
        """Greedy answers of random models, 16 rows at a time, ours in slots that are refilled at once; the answers are
        the same, token by token.""",
        "python benchmarks/generation.py",
        (
            Column("seconds", "seconds", "{:.2f}"),
            Column("samples_per_second", "answers/s", "{:.1f}"),
            Column("tokens_per_second", "tokens/s", "{:,.0f}"),
        ),
        goals=(
            Goal("1.9 times transformers' generate, Llama 5 x 64", 1.9, slower("Llama", GENERATE)),
            Goal("1.9 times transformers' generate, Qwen3 8 x 256", 1.9, slower("Qwen3", GENERATE)),
        ),
    ),
    Section(
        "start_up",
        "Start-up",
        """Whole processes, the disk's cache warm. *First step* is from the command to the line that tells of it, full
        fine-tuning of a model with 12 million weights on data prepared before; *imports alone* is a Python that
        imports torch and the model's class and ends. A plan of the
        configuration follows a step through the model without content, for which it needs torch.""",
        "python benchmarks/start_up.py --data alpaca_data.json",
        (
Column("seconds", "seconds", "{:.2f}"),),
        goals=(
            Goal("a mistake in a file told within 0.15 s (1 = just)", 1, under(0.15, "Answers", MISTAKE)),
            Goal("a plan of the configuration within 0.15 s (1 = just)", 1, under(0.15, "Answers", PLAN)),
            Goal("the schema within 0.3 s (1 = just)", 1, under(0.3, "Answers", "sft schema")),
            Goal("the first step within 1.3 times the bare imports (1 = just)", 1, first_step_ratio),
        ),
    ),
    Section(
        "checkpoints",
        "Writing a checkpoint",
        """The same trainer after the same step, weights and Adam's two moments, on a local disk. transformers' own
        files are not waited for, and in the second row synced one by one; ours are hashed, synced, listed in a
        manifest and renamed into place. *Stands still*: what training waits for; ours where it is written in the
        background. *Restored*: the optimizer's state, ours mapped: its pages are read when a step needs them.""",
        "python benchmarks/checkpoints.py",
        (
            Column("seconds", "written, s", "{:.3f}"),
            Column("stall", "stands still, s", "{:.3f}"),
            Column("restore", "restored, s", "{:.3f}"),
        ),
        goals=(
            Goal("100 MB: within 1.1 times transformers' own (1 = just)", 1, within(1.1, "100 MB", "transformers")),
            Goal("300 MB: the same", 1, within(1.1, "300 MB", "transformers")),
            Goal("1,000 MB: the same", 1, within(1.1, "1,000 MB", "transformers")),
        ),
    ),
    Section(
        "saving",
        "Checkpoints",
        """A model that makes checkpoints of the size shown, with Adam's two moments, on a local disk. *Stands still*:
        what a save adds between two steps, for the first save of a run and for a later one. *Goes on*: what
        resuming adds before the first step.""",
        "python benchmarks/saving.py",
        (
            Column("later_stall", "stands still, s", "{:.2f}"),
            Column("first_stall", "first time, s", "{:.2f}"),
            Column("restore", "goes on after, s", "{:.2f}"),
            Column("gigabytes", "GB", "{:.2f}"),
        ),
    ),
)  # fmt: skip
