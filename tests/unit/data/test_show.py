"""What a person sees of an example."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sft.data.render import Renderer
from sft.data.show import FOUND, PLAIN, TRAINED, decode_trained, holds, legend, search_for, show_example
from sft.data.types import Conversation, Example, Message, Source


def example_of(tokenizer: Any, *contents: str, **options: Any) -> Example:
    roles = ("user", "assistant") * len(contents)
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, contents, strict=False))
    [example] = Renderer(tokenizer, **options).render(
        Conversation(messages=messages, source=Source("data/train.jsonl", 7))
    )
    return example


def test_without_colour_trained_tokens_stand_in_brackets(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer()
    example = example_of(tokenizer, "What?", "one\ntwo")
    shown = show_example(example, tokenizer, colour=False, width=60)
    assert shown.splitlines() == [
        f"data/train.jsonl:7: {len(example)} tokens, {example.num_trained_tokens} trained",
        "  <|im_start|>user\\n",
        "  What?<|im_end|>\\n",
        "  <|im_start|>assistant\\n",
        "  ⟦one\\n",
        "  two<|im_end|>⟧\\n",
    ]


def test_with_colour_every_line_is_closed(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer()
    shown = show_example(example_of(tokenizer, "What?", "one\ntwo"), tokenizer, colour=True, width=60).splitlines()
    assert f"  {TRAINED}one\\n{PLAIN}" in shown
    assert f"  {TRAINED}two<|im_end|>{PLAIN}\\n{PLAIN}" in shown


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("width", [20, 33, 80])
def test_lines_fit(new_tokenizer: Any, colour: bool, width: int) -> None:
    tokenizer = new_tokenizer()
    example = example_of(tokenizer, "What " * 30, "中文" * 50 + " and more " * 9)
    lines = show_example(example, tokenizer, colour=colour, width=width).splitlines()
    assert max(columns(line) for line in lines) <= width
    while "<|im_start|>" not in lines[0]:
        del lines[0]  # the header
    body = "".join(line.removeprefix("  ") for line in lines)
    assert strip_marks(body).replace("\\n", "\n") == example.text


def test_control_characters_cannot_reach_the_terminal(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer()
    example = example_of(tokenizer, "a\x1b[2Jb\x07\tc\u202edrow", "one\r\x9b")
    shown = show_example(example, tokenizer, colour=False, width=80)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert "a\\x1b[2Jb\\x07\\tc\\u202edrow" in shown
    assert "⟦one\\r\\x9b<|im_end|>⟧" in shown


def test_the_header_names_the_turn_and_the_legend_the_marks(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer("qwen3")
    conversation = Conversation(
        messages=tuple(
            Message(role=role, content=text)
            for role, text in zip(("user", "assistant") * 2, ("a", "one", "b", "two"), strict=True)
        ),
        source=Source("rows", 3, "row"),
        weight=2.0,
    )
    second = Renderer(tokenizer).render(conversation)[1]
    header = show_example(second, tokenizer, colour=False, width=80).splitlines()[0]
    assert (
        header
        == f"rows row 3, answer in message 4: {len(second)} tokens, {second.num_trained_tokens} trained, weighted"
    )
    assert "⟦trained⟧" in legend(colour=False, width=200)
    assert TRAINED in legend(colour=True, width=200)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ONE", "  ⟦⟪one⟫\\n"),
        ("one\ntw", ["  ⟦⟪one\\n", "  tw⟫o<|im_end|>⟧\\n"]),
        ("t\none", ["  <|im_start|>assistan⟪t\\n", "  ⟫⟦⟪one⟫\\n"]),
        ("o", "  tw⟪o⟫<|im_end|>⟧\\n"),
        (".", "  What?<|im_end|>\\n"),
    ],
)
def test_what_is_searched_for_is_marked(new_tokenizer: Any, text: str, shown: str | list[str]) -> None:
    tokenizer = new_tokenizer()
    example = example_of(tokenizer, "What?", "one\ntwo")
    search = search_for(text)
    lines = show_example(example, tokenizer, colour=False, width=60, search=search).splitlines()
    assert set([shown] if isinstance(shown, str) else shown) <= set(lines)
    assert holds(example, tokenizer, search) == (text != ".")
    assert ("⟪" in "".join(lines)) == (text != ".")
    coloured = show_example(example, tokenizer, colour=True, width=60, search=search)
    assert (FOUND in coloured) == (text != ".")
    assert strip_marks(coloured) == strip_marks("\n".join(lines))


def test_a_line_of_a_megabyte(new_tokenizer: Any) -> None:
    example = example_of(new_tokenizer(), "What?", "one")

    class Long:
        def decode(self, ids: list[int], **options: bool) -> str:
            return "x\u202e\x1b" * 120_000

    lines = show_example(example, Long(), colour=False, width=100).splitlines()
    assert max(map(columns, lines)) <= 100
    assert "".join(lines).count("\\u202e\\x1b") > 300_000  # but those across two lines


def test_what_trained_tokens_decode_to(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer()
    example = example_of(tokenizer, "a", "one", "b", "two")
    assert decode_trained(example, tokenizer) == ["one<|im_end|>", "two<|im_end|>"]


def strip_marks(text: str) -> str:
    return re.sub("\x1b\\[[0-9;]*m|[⟦⟧⟪⟫]", "", text)


def columns(line: str) -> int:
    import unicodedata

    visible = re.sub("\x1b\\[[0-9;]*m", "", line)
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in visible)
