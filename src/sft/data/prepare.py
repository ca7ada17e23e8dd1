"""The walk, from files to examples on disk. Read this first.

    Row  ->  Conversation  ->  Example  ->  (fits max_length)  ->  ExampleStore
    read_conversations     Renderer.render     fit_length           StoreWriter

In between, stage pretrain cuts texts into blocks (blocks.py) and stage dpo renders pairs of answers (pairs.py).

It runs before any process group exists and before a model is loaded, once: what it makes is kept by content.
Packing (``pack_examples``) and tensors (``Collator``) come after it, from lengths and flat arrays.
"""

from __future__ import annotations

import gc
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.blocks import render_blocks
from sft.data.cache import CacheEntry, cached, hash_code, hash_text
from sft.data.conversations import ConversationSet, MoreRows, read_conversations, refuse_bad_rows
from sft.data.duplicates import without_duplicates
from sft.data.lengths import fit_length
from sft.data.pairs import render_pairs
from sft.data.quick import Differs, InFull, render_by_shape, render_in_full
from sft.data.render import Renderer
from sft.data.report import DataReport, explain_nothing_trained
from sft.data.runs import Run
from sft.data.sources import SourceSpec, fingerprint_source, parse_sources
from sft.data.store import ExampleStore, StoreWriter
from sft.data.types import Conversation, Example
from sft.errors import DataError, RowError

REPORT = "report.json"


@dataclass(frozen=True)
class PreparedPart:
    """Examples of one part of the data, and what became of its rows."""

    examples: ExampleStore
    report: DataReport


@dataclass(frozen=True)
class PreparedData:
    """Everything training needs of the data."""

    train: PreparedPart
    eval: PreparedPart | None
    cache: CacheEntry


def prepare(
    config: SFTConfig, tokenizer: PreTrainedTokenizerBase, *, more: MoreRows | None = None, quiet: bool = False
) -> PreparedData:
    """Read, render and measure the data of a config, or find it prepared already.

    Args:
        more: rows of tasks to train on, and what must not be trained on because it will be asked.

    Raises:
        DataError: a source cannot be read, too many rows cannot be used, or no token is left to train.
    """

    def build(folder: Path) -> None:
        with no_garbage_collection():
            made = {
                name: make_examples(conversations, config, tokenizer, quiet=quiet)
                for name, conversations in read_parts(config, more).items()
            }
        for name, (writer, report) in made.items():
            if not report.trained_tokens:
                raise DataError(
                    f"nothing to train in the {name} data: {explain_nothing_trained(report, config.max_length)}"
                )
            writer.write(folder / name)
            (folder / name / REPORT).write_text(json.dumps(report.to_dict()), encoding="utf-8")

    parts = fingerprints(config, tokenizer, more)
    entry = cached(parts, build, cache_dir=config.cache_dir, overwrite=config.overwrite_cache)
    has_eval = (entry.folder / "eval").is_dir()
    return PreparedData(_load(entry, "train"), _load(entry, "eval") if has_eval else None, entry)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """While open, objects are freed by their count alone. Searching millions of rows for cycles takes a third of it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_parts(config: SFTConfig, more: MoreRows | None = None) -> dict[str, ConversationSet]:
    """Rows -> conversations, for training and, where there is any, for evaluation."""
    train = ConversationSet() if config.data_path is None else _read(config, config.data_path)
    if more is not None:
        train = leave_out(train, more, allow=config.allow_contamination).join(more.read())
    if config.max_train_samples is not None:
        train = choose_some(train, config.max_train_samples, config.seed)
    if config.eval_data_path is not None:
        return {"train": train, "eval": _read(config, config.eval_data_path)}
    if config.validation_size:
        train, held_out = hold_out(train, config.validation_size, config.seed)
        return {"train": train, "eval": held_out}
    return {"train": train}


def leave_out(conversations: ConversationSet, more: MoreRows, *, allow: bool) -> ConversationSet:
    """Count the rows that hold what an evaluation will ask, and leave them out unless they are allowed."""
    reasons = [more.overlap(conversation) for conversation in conversations.conversations]
    kept = conversations.select([index for index, reason in enumerate(reasons) if allow or reason is None])
    kept.overlapping = Counter(reason for reason in reasons if reason is not None)
    kept.num_rows = conversations.num_rows
    return kept


def choose_some(conversations: ConversationSet, count: int, seed: int) -> ConversationSet:
    """A seeded random choice of at most ``count`` conversations, in their order."""
    total = len(conversations.conversations)
    return conversations.select(sorted(random.Random(seed).sample(range(total), min(count, total))))


def make_examples(
    conversations: ConversationSet, config: SFTConfig, tokenizer: PreTrainedTokenizerBase, *, quiet: bool = False
) -> tuple[StoreWriter, DataReport]:
    """Conversations -> examples that fit ``max_length``; every row is used or counted with its reason."""
    try:
        return fill_store(conversations, config, tokenizer, EXAMPLES_OF_STAGE[config.stage], quiet=quiet)
    except Differs:
        return fill_store(conversations, config, tokenizer, WITH_TEXTS[config.stage], quiet=quiet)


def fill_store(
    conversations: ConversationSet,
    config: SFTConfig,
    tokenizer: PreTrainedTokenizerBase,
    make: MakeExamples,
    *,
    quiet: bool,
) -> tuple[StoreWriter, DataReport]:
    """Collect what ``make`` makes of conversations, and account for every row.

    Raises:
        DataError: more rows are unusable than ``max_bad_rows``.
        Differs: see ``render_by_shape``.
    """
    renderer = make_renderer(config, tokenizer)
    report = DataReport(
        rows=conversations.num_rows,
        conversations=len(conversations.conversations),
        rejected=conversations.rejected.copy(),
        rejected_places=list(conversations.rejected_places),
        overlapping=conversations.overlapping.copy(),
        duplicates=conversations.duplicates,
        contaminated=config.allow_contamination,
        formats=dict(conversations.formats),
        notes=list(conversations.notes),
    )
    writer = StoreWriter()
    bar = tqdm(conversations.conversations, desc="rendering", unit=" conversations", delay=1, disable=quiet or None)
    for made in make(bar, renderer, config, report):
        if isinstance(made, Run):
            writer.extend(made)
        else:
            writer.add(made)
    report.examples, report.tokens, report.trained_tokens = writer.counts()
    refuse_bad_rows(report.rejected, report.rejected_places, rows=report.rows, max_bad_rows=config.max_bad_rows)
    report.generation_kwargs = dict(renderer.generation_kwargs)
    report.stop_token_ids = report.stop_token_ids or stop_tokens(writer, tokenizer)
    return writer, report


TRAINED_IN_STAGE = {"pretrain": "everything", "dpo": "last_answer"}
"""What a stage trains, whatever ``train_on`` says by default."""


def make_renderer(config: SFTConfig, tokenizer: PreTrainedTokenizerBase) -> Renderer:
    """The renderer a config asks for."""
    return Renderer(
        tokenizer,
        train_on=TRAINED_IN_STAGE.get(config.stage, config.train_on),
        rewritten_history=config.rewritten_history,
        template_kwargs=config.chat_template_kwargs,
        allow_special_tokens=config.allow_special_tokens,
        append_eos=config.append_eos,
    )


def render_examples(
    conversations: Iterable[Conversation], renderer: Renderer, config: SFTConfig, report: DataReport
) -> Iterator[Example | Run]:
    """Stage sft: conversations -> examples that fit ``max_length``."""
    for made in render_by_shape(renderer, conversations):
        if isinstance(made, InFull):
            yield from fit_examples(made, renderer, config, report)
        else:
            yield from fit_run(made, renderer, config, report)


def render_each(
    conversations: Iterable[Conversation], renderer: Renderer, config: SFTConfig, report: DataReport
) -> Iterator[Example]:
    """The same, each conversation rendered by itself."""
    for made in render_in_full(renderer, conversations):
        yield from fit_examples(made, renderer, config, report)


def fit_examples(made: InFull, renderer: Renderer, config: SFTConfig, report: DataReport) -> Iterator[Example]:
    """The examples of one conversation that fit ``max_length``."""
    if isinstance(made.examples, RowError):
        report.reject(str(made.examples), made.examples.reason)
        return
    report.split += len(made.examples) > 1
    for example in made.examples:
        yield from fit_example(made.conversation, example, renderer, config, report)


def fit_run(run: Run, renderer: Renderer, config: SFTConfig, report: DataReport) -> Iterator[Example | Run]:
    """The same for many examples: those that fit stay together."""
    report.split += run.num_split
    start = 0
    too_long_or_short = (run.lengths > config.max_length) | (run.lengths < config.min_length)
    for place in np.flatnonzero(too_long_or_short).tolist():
        yield run.part(start, place)
        yield from fit_example(run.conversations[place], run[place], renderer, config, report)
        start = place + 1
    yield run.part(start, len(run))


def fit_example(
    conversation: Conversation, example: Example, renderer: Renderer, config: SFTConfig, report: DataReport
) -> Iterator[Example]:
    """An example as it is or shortened; or none, which is counted with its reason."""
    fitted = fit_length(conversation, example, renderer.render, max_length=config.max_length, overlong=config.overlong)
    if isinstance(fitted, str):
        report.drop(str(example.source), fitted, len(example))
        return
    if len(fitted) < config.min_length:
        report.drop(str(example.source), f"shorter than min_length {config.min_length}", len(fitted))
        return
    report.cut += fitted is not example
    yield fitted


MakeExamples = Callable[[Iterable[Conversation], Renderer, SFTConfig, DataReport], Iterator[Example | Run]]

EXAMPLES_OF_STAGE: Mapping[str, MakeExamples] = {
    "sft": render_examples,
    "pretrain": render_blocks,
    "dpo": render_pairs,
}
"""How conversations become what the store keeps. Rows that cannot be used are entered into the report."""

WITH_TEXTS: Mapping[str, Callable[..., Iterator[Example]]] = {
    "sft": render_each,
    "pretrain": render_blocks,
    "dpo": render_pairs,
}
"""The same examples, each with its text: for people to look at, and where shapes cannot be trusted."""


def hold_out(conversations: ConversationSet, size: float, seed: int) -> tuple[ConversationSet, ConversationSet]:
    """Take a seeded random part of the rows out for evaluation: a share below 1, else a count.

    A row that a weight repeats goes with all its repeats, and is evaluated once.

    Raises:
        DataError: nothing would be left to train.
    """
    places: dict[int, list[int]] = {}
    for index, conversation in enumerate(conversations.conversations):
        places.setdefault(id(conversation), []).append(index)  # repeats are the same object
    count = int(size) if size >= 1 else max(1, round(size * len(places)))
    if count >= len(places):
        raise DataError(f"validation_size {size:g} would hold out {count} of {len(places)} rows; none is left to train")
    chosen = set(random.Random(seed).sample(list(places), count))
    return (
        conversations.select([index for place, all_of in places.items() if place not in chosen for index in all_of]),
        conversations.select([all_of[0] for place, all_of in places.items() if place in chosen], rejected=False),
    )


def fingerprints(config: SFTConfig, tokenizer: PreTrainedTokenizerBase, more: MoreRows | None = None) -> dict[str, str]:
    """Everything that decides the prepared data, by name; a change of any makes it be prepared anew."""
    rules = (
        "format_type", "columns", "role_names", "input_separator", "system_prompt", "use_chat_template", "max_bad_rows",
        "deduplicate",
        "chat_template_kwargs", "train_on", "rewritten_history", "allow_special_tokens", "append_eos",
        "max_length", "min_length", "overlong", "validation_size", "max_train_samples",
        "allow_contamination", "stage", "isolate_documents", "max_prompt_length",
    )  # fmt: skip
    parts = {name: json.dumps(getattr(config, name), sort_keys=True) for name in rules}
    parts["seed"] = str(config.seed)
    parts["tasks"] = "none" if more is None else more.fingerprint
    parts["data"] = _fingerprint_data(config, config.data_path)
    parts["evaluation data"] = _fingerprint_data(config, config.eval_data_path)
    parts["chat template"] = hash_text(str(tokenizer.chat_template))
    parts["tokenizer"] = fingerprint_tokenizer(tokenizer)
    parts["sft code"] = hash_code()
    return parts


def fingerprint_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """128 bits over what turns text into ids."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hash_text(text)


def stop_tokens(writer: StoreWriter, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that end trained stretches: what a model learns to stop with."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return sorted(special & set(writer.last_trained().tolist()))


def _read(config: SFTConfig, data_path: str | list[Any] | None) -> ConversationSet:
    found = read_conversations(
        _specs(config, data_path),
        role_names=config.role_names,
        system_prompt=config.system_prompt,
        input_separator=input_separator(config),
        pairs=config.stage == "dpo",
        max_bad_rows=config.max_bad_rows,
        seed=config.seed,
    )
    return without_duplicates(found) if config.deduplicate else found


def input_separator(config: SFTConfig) -> str:
    """What stands between instruction and input."""
    if config.input_separator is not None:
        return config.input_separator
    return "\n\n" if config.use_chat_template else "\nInput: "


def _specs(config: SFTConfig, data_path: str | list[Any] | None) -> Sequence[SourceSpec]:
    return parse_sources(
        data_path or [],
        split=config.data_split,
        revision=config.data_revision,
        format_type=config.format_type,
        columns=config.columns,
    )


def _fingerprint_data(config: SFTConfig, data_path: str | list[Any] | None) -> str:
    if data_path is None:
        return "none"
    return " ".join(fingerprint_source(spec) for spec in _specs(config, data_path))


def _load(entry: CacheEntry, name: str) -> PreparedPart:
    folder = entry.folder / name
    values: Mapping[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return PreparedPart(ExampleStore(folder), DataReport.from_dict(dict(values)))
