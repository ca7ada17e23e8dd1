"""Lines between words, paths whole, commands that can be copied."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.terminal.folding import folded, folded_command
from sft.terminal.plain import num_columns

WORD = st.text(st.sampled_from("abcde/.,日本"), min_size=1, max_size=12)


@given(st.lists(WORD, min_size=1, max_size=40), st.integers(20, 100))
def test_no_line_is_wider_and_no_word_is_lost(words: list[str], width: int) -> None:
    lines = folded(" ".join(words), width).split("\n")
    assert max(map(num_columns, lines)) <= max(width, 26)  # a word of 24 columns stays whole, behind its indentation
    assert " ".join(lines).split() == words
    assert folded("\n".join(lines), 200) == "\n".join(lines)


def test_what_follows_a_label_stands_under_it() -> None:
    text = "plan\n  data       72 rows became 72 examples of one conversation each\n  next       one"
    assert folded(text, 40).split("\n") == [
        "plan",
        "  data       72 rows became 72 examples",
        "             of one conversation each",
        "  next       one",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 200])
def test_a_folded_command_is_the_same_command(width: int) -> None:
    words = "sft merge --adapter_path 'my run/final_model' --output_path 'my run/merged'"
    shown = folded_command(words, width)
    assert shlex.split(shown.replace("\\\n", " ")) == shlex.split(words)
    assert ("\n" in shown) == (len(words) > width)
