"""Nothing that data can hold acts on a terminal, and JSON reads back as what it was."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.terminal.plain import as_json, message, num_columns, plain, plain_line

ACTS = frozenset(
    [
        *map(chr, [*range(0x20), *range(0x7F, 0xA0)]),
        *"\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    ]
)
"""Control characters, ends of lines, and all that Unicode lists as Bidi_Control."""

ANY = st.text(st.characters(codec=None) | st.sampled_from(sorted(ACTS)))


@given(ANY)
def test_nothing_acts_on_a_terminal(text: str) -> None:
    for shown, kept in ((plain(text), "\n\t"), (plain_line(text), "")):
        assert set(shown) & ACTS <= set(kept)
        shown.encode("utf-8")  # no half of a character


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_other_text_is_as_it_was(text: str) -> None:
    assert plain(text) == plain_line(text) == text


@given(st.recursive(ANY | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(ANY, inner)))
def test_json_reads_back_and_acts_on_nothing(value: object) -> None:
    shown = as_json(value)
    assert not set(shown) & ACTS
    assert json.loads(shown) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31mred", "\\x9b31mred"),
        ("user\u202egnp.exe", "user\\u202egnp.exe"),
        ("over\rwritten", "over\\rwritten"),
        ("half \ud83d", "half \\ud83d"),
        ("a\tb\nc", "a\tb\nc"),
        ("<script>", "<script>"),
        ("日本語 👩\u200d🚀", "日本語 👩\u200d🚀"),
    ],
)
def test_how_it_is_written_out(text: str, shown: str) -> None:
    assert plain(text) == shown
    assert plain_line(text) == shown.replace("\t", "\\t").replace("\n", "\\n")


def test_a_line_of_a_megabyte_is_cut_in_its_middle_and_says_so() -> None:
    shown = message(f"row 3: {'x' * 1_000_000}\x1b end\nsecond line")
    first, second = shown.split("\n")
    assert second == "second line"
    assert len(first) < 4_100
    assert first.startswith("row 3: xxx")
    assert first.endswith("xxx\\x1b end")
    assert "996,012 characters left out" in first


def test_columns() -> None:
    assert num_columns("abc") == 3
    assert num_columns("日本") == 4
    assert num_columns("e\u0301") == 1
    assert unicodedata.normalize("NFC", "e\u0301") == "é"
