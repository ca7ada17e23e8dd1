"""Over-long examples are dropped with a reason, or lose whole exchanges and stay what the template writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sft.data.lengths import cut_tokens, fit_length
from sft.data.render import Renderer
from sft.data.types import Conversation, Example, Message, Source
from sft.errors import DataError

SOURCE = Source("chat.jsonl", 4)


def render(conversation: Conversation) -> list[Example]:
    """A stand-in whose tokens are words; assistant words are trained."""
    ids: list[int] = []
    mask: list[int] = []
    texts = []
    for message in conversation.messages:
        words = message.content.split()
        trained = message.role == "assistant" and message.train is not False
        ids += [len(word) for word in words]
        mask += [int(trained)] * len(words)
        texts.append(message.content)
    if not any(mask):
        return []
    return [
        Example(
            input_ids=np.array(ids, np.int32), loss_mask=np.array(mask, np.uint8), text="|".join(texts), source=SOURCE
        )
    ]


def chat(*contents: str, system: bool = True) -> Conversation:
    roles = ["user", "assistant"] * len(contents)
    messages = [Message(role="system", content="be brief")] if system else []
    messages += [Message(role=role, content=text) for role, text in zip(roles, contents, strict=False)]  # type: ignore[arg-type]
    return Conversation(messages=tuple(messages), source=SOURCE)


THREE = chat("one two", "a b c", "three", "d e", "four five six", "f")


def fitted(conversation: Conversation, max_length: int, overlong: str) -> Example | str:
    return fit_length(conversation, render(conversation)[0], render, max_length=max_length, overlong=overlong)


def test_what_fits_is_not_touched() -> None:
    example = render(THREE)[0]
    assert fit_length(THREE, example, render, max_length=len(example), overlong="error") is example


def test_drop_gives_a_countable_reason_and_error_names_the_place() -> None:
    assert fitted(THREE, 5, "drop") == "longer than max_length 5"
    with pytest.raises(DataError, match=r"chat.jsonl:4: 14 tokens, but max_length is 5"):
        fitted(THREE, 5, "error")


@pytest.mark.parametrize(
    ("overlong", "max_length", "left"),
    [
        ("cut_start", 9, "be brief|three|d e|four five six|f"),
        ("cut_start", 6, "be brief|four five six|f"),
        ("cut_end", 10, "be brief|one two|a b c|three|d e"),
        ("cut_end", 9, "be brief|one two|a b c"),
    ],
)
def test_cutting_takes_whole_exchanges_and_keeps_the_system_turn(overlong: str, max_length: int, left: str) -> None:
    cut = fitted(THREE, max_length, overlong)
    assert isinstance(cut, Example)
    assert cut.text == left
    assert len(cut) <= max_length


@pytest.mark.parametrize("overlong", ["cut_start", "cut_end"])
def test_an_exchange_that_alone_is_too_long_is_dropped(overlong: str) -> None:
    assert fitted(THREE, 3, overlong) == "no whole trained turn fits in max_length 3"


@pytest.mark.parametrize(("overlong", "trained"), [("cut_start", 1), ("cut_end", 3)])
def test_when_the_trained_turns_would_be_cut_away_the_row_is_dropped(
    new_tokenizer: Any, overlong: str, trained: int
) -> None:
    contents = ["one " * 10, "two " * 10, "three " * 10, "four " * 10]
    messages = [
        Message(role="assistant" if turn % 2 else "user", content=text, train=turn == trained)
        for turn, text in enumerate(contents)
    ]
    row = Conversation(messages=tuple(messages), source=SOURCE)
    renderer = Renderer(new_tokenizer("chatml"))
    (example,) = renderer.render(row)
    longest = len(example) - 1
    cut = fit_length(row, example, renderer.render, max_length=longest, overlong=overlong)
    assert cut == f"no whole trained turn fits in max_length {longest}"


def test_of_a_split_conversation_only_the_history_may_leave() -> None:
    last = Example(
        input_ids=np.arange(14, dtype=np.int32), loss_mask=np.ones(14, np.uint8), text="", source=SOURCE, turn=6
    )
    cut = fit_length(THREE, last, render, max_length=6, overlong="cut_start")
    assert isinstance(cut, Example)
    assert (cut.text, cut.turn, cut.num_trained_tokens) == ("be brief|four five six|f", 6, 1)
    assert "no whole" in str(fit_length(THREE, last, render, max_length=6, overlong="cut_end"))


@pytest.mark.parametrize(("from_start", "ids", "mask"), [(True, [3, 4], [0, 1]), (False, [1, 2], [0, 1])])
def test_plain_text_is_cut_by_tokens_and_its_first_token_is_never_trained(
    from_start: bool, ids: list[int], mask: list[int]
) -> None:
    example = Example(
        input_ids=np.array([1, 2, 3, 4], np.int32), loss_mask=np.ones(4, np.uint8), text="", source=SOURCE
    )
    cut = cut_tokens(example, 2, from_start=from_start)
    assert cut is not None
    assert (cut.input_ids.tolist(), cut.loss_mask.tolist()) == (ids, mask)
    assert example.loss_mask.tolist() == [1, 1, 1, 1]
