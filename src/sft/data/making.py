"""Conversations -> examples that fit ``max_length``, as the stage of a config makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.blocks import render_documents
from sft.data.lengths import fit_length
from sft.data.pairs import render_pairs
from sft.data.quick import InFull, QuickRenderer, render_by_shape, render_in_full
from sft.data.render import Renderer
from sft.data.report import DataReport
from sft.data.runs import Run
from sft.data.types import Conversation, Example
from sft.errors import RowError

Make = Callable[[Iterable[Conversation], DataReport], Iterator[Example | Run]]
"""Whatever cannot be used is entered into the report."""

MakeEach = Callable[[Iterable[Conversation], DataReport], Iterator[Example]]


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


def make_examples(config: SFTConfig, renderer: Renderer, threads: int) -> Make:
    """How the stage of a config makes examples. In stage pretrain they are documents, to be cut into blocks."""
    if config.stage == "sft":
        return partial(_by_shape, QuickRenderer(renderer, threads), config)
    return make_in_full(config, renderer)


def make_in_full(config: SFTConfig, renderer: Renderer) -> MakeEach:
    """The same with every conversation rendered by itself: each example with its text, for people to look at."""
    if config.stage == "pretrain":
        return partial(render_documents, renderer)
    if config.stage == "dpo":
        return partial(render_pairs, renderer, config)
    return partial(_each, renderer, config)


def _by_shape(
    quick: QuickRenderer, config: SFTConfig, conversations: Iterable[Conversation], report: DataReport
) -> Iterator[Example | Run]:
    for made in render_by_shape(quick, conversations):
        if isinstance(made, InFull):
            yield from fit_examples(made, quick.full, config, report)
        else:
            yield from fit_run(made, quick.full, config, report)


def _each(
    renderer: Renderer, config: SFTConfig, conversations: Iterable[Conversation], report: DataReport
) -> Iterator[Example]:
    for made in render_in_full(renderer, conversations):
        yield from fit_examples(made, renderer, config, report)


def fit_examples(made: InFull, renderer: Renderer, config: SFTConfig, report: DataReport) -> Iterator[Example]:
    """The examples of one conversation that fit ``max_length``."""
    if isinstance(made.examples, RowError):
        report.reject(made.examples)
        return
    report.split += len(made.examples) > 1
    report.rendered += len(made.examples)
    report.rendered_tokens += sum(map(len, made.examples))
    for example in made.examples:
        yield from fit_example(made.conversation, example, renderer, config, report)


def fit_run(run: Run, renderer: Renderer, config: SFTConfig, report: DataReport) -> Iterator[Example | Run]:
    """The same for many examples: those that fit stay together."""
    report.split += run.num_split
    report.rendered += len(run)
    report.rendered_tokens += int(run.lengths.sum())
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
    with renderer.trying():
        fitted = fit_length(
            conversation, example, renderer.render, max_length=config.max_length, overlong=config.overlong
        )
    if isinstance(fitted, str):
        renderer.note_kwargs(example.answer_kwargs, -1)
        report.drop(str(example.source), fitted, len(example))
        return
    if len(fitted) < config.min_length:
        renderer.note_kwargs(example.answer_kwargs, -1)
        too_short = f"shorter than min_length {config.min_length}"
        report.drop(str(example.source), too_short, len(fitted), len(example))
        return
    if fitted is not example:
        renderer.note_kwargs(example.answer_kwargs, -1)
        renderer.note_kwargs(fitted.answer_kwargs)
    report.cut += fitted is not example
    report.cut_tokens += len(example) - len(fitted)
    yield fitted
