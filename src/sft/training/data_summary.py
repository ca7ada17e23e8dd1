"""``data_summary.json``: what a run is trained on, small enough to stay in its folder when the prepared data are gone.

Lengths of all examples, tokens by source, and a few examples as text: the first, the shortest, the longest and the
oddest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.store import ExampleStore
from sft.data.types import Example
from sft.training.checkpoints.disk import write_whole
from sft.training.launch import announce
from sft.training.plan import Plan

SUMMARY = "data_summary.json"
BARS = 32
"""Of the histogram of lengths."""

SPREAD = 12
"""Where the longest example has so many times the tokens of the median one, bars grow."""

LOOKED_AT = 1 << 26
"""Tokens whose masks are looked at for the oddest examples: a fraction of a second."""

SOURCES = 100
HEAD, TAIL = 1200, 400
"""Tokens of an example that are kept of one that is longer."""

SIDES = ("the chosen answer", "the rejected answer")

Counts = npt.NDArray[np.int64]


def keep_summary(config: SFTConfig, plan: Plan, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the summary of what is trained on into a run's folder, for its page; a full disk keeps no run from it."""
    if not config.report_page:
        return
    path = Path(config.output_dir) / SUMMARY
    values = summarise(plan.data.train.examples, tokenizer, pairs=plan.stage == "dpo")
    try:
        write_whole(path, json.dumps(values, ensure_ascii=False, indent=1))
    except OSError as error:
        announce(f"{path} could not be written: {error.strerror}. The page of the run goes without it.")


def summarise(store: ExampleStore, tokenizer: PreTrainedTokenizerBase, *, pairs: bool = False) -> dict[str, Any]:
    """Lengths, sources and examples, as plain JSON values.

    Args:
        pairs: every second example is the worse answer to the prompt of the one before.
    """
    looked_at = max(1, int(np.searchsorted(store.offsets, LOOKED_AT, side="right")) - 1) if len(store) else 0
    trained = store.trained_lengths_of(looked_at)
    sources = list(_sources(store, trained))
    return {
        "examples_counted": len(store),
        "lengths": histogram(store.lengths),
        "sources": sources[:SOURCES],
        "more_sources": max(0, len(sources) - SOURCES),
        "looked_at": looked_at,
        "examples": [
            _describe(f"{why} ({SIDES[at % 2]})" if pairs else why, store[at], tokenizer)
            for at, why in choose(store.lengths, trained)
        ],
    }


def histogram(lengths: Counts) -> list[dict[str, int]]:
    """How many examples have how many tokens: bars of even width, or growing ones where a few are very long."""
    if not len(lengths):
        return []
    edges = bar_edges(lengths)
    counts, _ = np.histogram(lengths, bins=edges)
    return [
        {"begins": int(begin), "ends": int(end) - 1, "examples": int(count)}
        for begin, end, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def bar_edges(lengths: Counts) -> Counts:
    """Where bars begin, and where the last one ends: whole numbers, each above the one before."""
    low, high = int(lengths.min()), int(lengths.max())
    if high > SPREAD * max(1.0, float(np.median(lengths))):
        grown = np.unique(np.round(np.geomspace(low, high + 1, BARS + 1)).astype(np.int64))
        return np.append(grown[:-1], high + 1)
    width = -(-(high - low + 1) // BARS)
    return np.arange(low, high + width + 1, width, dtype=np.int64)


def choose(lengths: Counts, trained: Counts) -> list[tuple[int, str]]:
    """Which examples are shown, and why, each once.

    Args:
        lengths: tokens of every example.
        trained: trained tokens of the first examples.
    """
    if not len(lengths):
        return []
    by_length, shares = np.argsort(lengths, kind="stable"), trained / np.maximum(lengths[: len(trained)], 1)
    chosen = [(0, "the first")]
    chosen += [(int(at), why) for at, why in zip(by_length[:2], ("the shortest", "the second shortest"), strict=False)]
    chosen += [
        (int(at), why) for at, why in zip(by_length[::-1][:2], ("the longest", "the second longest"), strict=False)
    ]
    chosen += [
        (int(shares.argmin()), "odd: the smallest share of trained tokens"),
        (int(shares.argmax()), "odd: the largest share of trained tokens"),
    ]
    reasons: dict[int, list[str]] = {}
    for at, why in chosen:
        reasons.setdefault(at, []).append(why)
    return [(at, " and ".join(why)) for at, why in reasons.items()]


def _sources(store: ExampleStore, trained: Counts) -> Iterator[dict[str, Any]]:
    """Examples and tokens by source; trained tokens where all masks were looked at."""
    known = len(trained) == len(store)
    for path, (examples, tokens, learnt) in store.figures_by_path(trained if known else None).items():
        yield {"path": path, "examples": examples, "tokens": tokens, "trained_tokens": learnt if known else None}


def _describe(why: str, example: Example, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {
        "why": why,
        "source": str(example.source),
        "turn": example.turn,
        "tokens": len(example),
        "trained_tokens": example.num_trained_tokens,
        "segments": segments(example, tokenizer),
        "special": special_texts(example.input_ids.tolist(), tokenizer),
    }


def special_texts(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """How the special tokens among them are written, so that a page can tell them from words."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return sorted({str(tokenizer.decode([one], skip_special_tokens=False)) for one in set(ids) & special})


def segments(example: Example, tokenizer: PreTrainedTokenizerBase) -> list[list[Any]]:
    """[text, whether it is trained] in order; of a long example its head and its end, None between them."""
    ids, mask = example.input_ids.tolist(), example.loss_mask.tolist()
    if len(ids) <= HEAD + TAIL:
        return _decoded(ids, mask, tokenizer)
    left_out = [f"\n[…{len(ids) - HEAD - TAIL:,} tokens left out…]\n", None]
    head, tail = _decoded(ids[:HEAD], mask[:HEAD], tokenizer), _decoded(ids[-TAIL:], mask[-TAIL:], tokenizer)
    return [*head, left_out, *tail]


def _decoded(ids: Sequence[int], mask: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[list[Any]]:
    found = []
    for is_trained, run in groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1] == 1):
        wanted = [token for token, _ in run]
        text = tokenizer.decode(wanted, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        found.append([str(text), is_trained])
    return found
