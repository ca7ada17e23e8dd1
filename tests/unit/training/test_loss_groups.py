"""Losses by source and by answer are those of the single tokens, added up by hand."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from sft.data.collate import Collator
from sft.data.loss_groups import SOURCES, TURNS, LossGroups
from sft.data.split import split_batch
from sft.data.types import Example, Source
from sft.training.head_loss import LogitForm
from sft.training.loss import summed_loss
from sft.training.token_figures import TokenFigures

GROUPS = LossGroups(("poems.jsonl", "data/chats.jsonl"))
EXAMPLES = (("poems.jsonl", 30, 1, None), ("data/chats.jsonl", 41, 3, None), ("rare.jsonl", 17, 2, None),
            ("data/chats.jsonl", 25, 1, 5), ("poems.jsonl", 60, TURNS + 2, None))  # fmt: skip
"""Source, tokens, answers, and the one message that a split conversation trains."""


def make(path: str, length: int, answers: int, turn: int | None) -> Example:
    mask = np.zeros(length, np.uint8)
    for begin in np.linspace(2, length - 3, answers).astype(int):
        mask[begin : begin + 2] = 1
    ids = np.random.default_rng(length).integers(3, 300, length, dtype=np.int32)
    return Example(input_ids=ids, loss_mask=mask, text="", source=Source(path, 1), turn=turn)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8,
        )
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def expected(model: Any) -> tuple[dict[str, float], float]:
    """Each example alone through the model; its losses sorted by hand. And the mean over all tokens."""
    losses: dict[str, list[float]] = defaultdict(list)
    everything: list[float] = []
    for path, length, answers, turn in EXAMPLES:
        example = make(path, length, answers, turn)
        ids = torch.from_numpy(example.input_ids.astype(np.int64))[None]
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0]
        answer = 0
        for before, at in pairwise(range(length)):
            if not example.loss_mask[at]:
                continue
            answer += not example.loss_mask[before]
            loss = float(torch.nn.functional.cross_entropy(logits[before], ids[0, at]))
            everything.append(loss)
            named = {"poems.jsonl": "poems.jsonl", "data/chats.jsonl": "chats.jsonl"}.get(path, "other_sources")
            losses[f"loss_of/{named}"].append(loss)
            if turn is None:
                name = str(answer) if answer < TURNS else f"{TURNS}_and_later"
                losses[f"loss_of_answer/{name}"].append(loss)
    return {name: float(np.mean(values)) for name, values in losses.items()}, float(np.mean(everything))


def groups_only(found: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if name.startswith("loss_of")}


@pytest.mark.parametrize("form", [None, LogitForm()], ids=["model's logits", "one pass"])
@pytest.mark.parametrize("parts", [1, 3])
def test_losses_by_source_and_answer(
    model: Any, expected: tuple[dict[str, float], float], form: LogitForm | None, parts: int
) -> None:
    batch = Collator(0, packed=False, groups=GROUPS)([[make(*one)] for one in EXAMPLES])
    figures, total = TokenFigures(GROUPS), 0.0
    for part in split_batch(batch, parts):
        figures.begin(part["trained_groups"])
        total += summed_loss(model.get_output_embeddings(), model, part, form, watch=figures)[0].item()
    by_group, mean = expected
    assert total / batch["num_trained"] == pytest.approx(mean, rel=1e-5)
    assert groups_only(figures.since_last(lambda value: 2 * value)) == pytest.approx(by_group, rel=1e-5)
    assert figures.since_last(lambda value: value) == {}, "they begin anew"


def test_packed_rows_count_the_same(model: Any, expected: tuple[dict[str, float], float]) -> None:
    examples = [make(*one) for one in EXAMPLES]
    batch = Collator(0, packed=True, groups=GROUPS)([examples[:3], examples[3:]])
    figures = TokenFigures(GROUPS)
    figures.begin(batch["trained_groups"])
    summed_loss(model.get_output_embeddings(), model, batch, LogitForm(), watch=figures)
    assert groups_only(figures.since_last(lambda value: value)) == pytest.approx(expected[0], rel=1e-4)


def test_a_loss_that_is_made_twice_counts_each_token_for_its_group(
    model: Any, expected: tuple[dict[str, float], float]
) -> None:
    """As in the first step, where what a model does to its logits is tried out."""
    batch = Collator(0, packed=False, groups=GROUPS)([[make(*one)] for one in EXAMPLES])
    figures = TokenFigures(GROUPS)
    figures.begin(batch["trained_groups"])
    for _ in range(2):
        summed_loss(model.get_output_embeddings(), model, batch, LogitForm(), watch=figures)
    assert groups_only(figures.since_last(lambda value: value)) == pytest.approx(expected[0], rel=1e-5)


def test_one_source_and_one_answer_each_say_nothing_more_than_the_loss(model: Any) -> None:
    groups = LossGroups(("a.jsonl",))
    batch = Collator(0, packed=False, groups=groups)([[make("a.jsonl", 20, 1, None)], [make("a.jsonl", 30, 1, None)]])
    figures = TokenFigures(groups)
    figures.begin(batch["trained_groups"])
    summed_loss(model.get_output_embeddings(), model, batch, watch=figures)
    assert figures.since_last(lambda value: value).keys() == {"entropy", "token_accuracy"}


def test_sources_have_names_of_their_own() -> None:
    groups = LossGroups.of({"a/x.jsonl": 5, "b/x.jsonl": 9, "y.jsonl": 7, **{f"more{n}": 1 for n in range(SOURCES)}})
    assert len(groups.sources) == SOURCES
    names = groups.families["source"]
    assert names[:3] == ["loss_of/b/x.jsonl", "loss_of/y.jsonl", "loss_of/a/x.jsonl"]
    assert len(names) == SOURCES + 1 == len(set(names))
