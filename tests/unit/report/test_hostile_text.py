"""Text of data and models is text on the page: nothing of it runs, and nothing of it moves other text about."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft.report.page import write_page
from sft.report.safe import cut, script_json, shown, visible

from .conftest import metrics, predictions, write_json, write_lines
from .reading_pages import read_page

EVIL = {
    "script": "</script><script>alert(1)</script>",
    "comment": "<!--<script>",
    "image": '"><img src=x onerror=alert(1)>',
    "attribute": "' onmouseover='alert(1)",
    "template": "{{ 7 * 7 }}{% for x in y %}",
    "terminal": "\x1b[31mred\x1b[0m\x07\x08\x00",
    "turned round": "abc\u202edlrow\u202c \u2066isolated\u2069 \u200f\u061c",
    "separators": "one\u2028two\u2029three\r\nfour\rfive",
    "half a pair": "half \ud83d and \udc00",
    "tags": "invisible \U000e0041\U000e007f",
    "long": "x" * 1_000_000,
}


@pytest.mark.parametrize("text", EVIL.values(), ids=list(EVIL))
def test_text_of_a_run_is_inert_wherever_it_stands(text: str, make_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_run(
        method=text,
        notes=[text],
        versions={text: text},
        fingerprints={text: text},
        config={text: {"value": text, "origin": text}, "learning_rate": {"value": [text], "origin": text}},
        plan={"rows": 3, "rejected": {text: 3}, "formats": {text: text}, "notes": [text], "lengths": {text: 3}},
        command={"words": ["sft", text], "folder": text},
        result={"model_path": text},
        allowed_changes=[text],
    )
    write_json(folder / "data_summary.json", hostile_summary(text))
    write_lines(folder / "metrics.jsonl", [*metrics(4), {"step": 5, text: 1.0, "loss": 1.0}])
    write_lines(folder / "incidents.jsonl", [{"step": 3, "kind": text, text: text, "rows": [text], "num_rows": 9}])
    path = folder / "eval_history.json"
    history = json.loads(path.read_text(encoding="utf-8"))
    history["history"][0]["results"]["qmsum"]["scorer"] = text
    history["history"].append({"step": 41, "timestamp": text, "combined_score": None, "results": {}, "failure": text})
    write_json(path, history)
    for step in (0, 20, 40):
        predictions(folder, step, {text[:200]: (text, 0.5), "plain": ("an answer", 0.1)})
    page = read_page(write_page([folder], tmp_path / "page.html").read_text(encoding="utf-8"))
    page.refuse_foreign_scripts()
    assert len(page.text) < 1_000_000
    for character in set(page.text):
        assert character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs"), hex(ord(character))
        assert not 0x202A <= ord(character) <= 0x202E
        assert not 0x2066 <= ord(character) <= 0x2069
    first = page.data["answers"][0][0]["rows"][0]
    assert first[3][0] == shown(text, 4000)


def hostile_summary(text: str) -> dict[str, Any]:
    example = {"why": text, "source": text, "turn": None, "tokens": 1, "trained_tokens": 1}
    return {
        "lengths": [{"begins": 1, "ends": 2, "examples": 3}],
        "sources": [{"path": text, "examples": 1, "tokens": 1, "trained_tokens": None}],
        "examples": [{**example, "segments": [[text, True], [text, False]]}],
    }


def test_an_example_reads_as_it_was_written(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """Signs that mean something in HTML come back as themselves."""
    text = 'if a < b && c > d: "it\'s" &amp; &lt;b&gt;\n\tnext'
    folder = make_run()
    write_json(folder / "data_summary.json", hostile_summary(text))
    page = read_page(write_page([folder], tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.root.all("pre", dir="auto")[0].text == f"trained: {text}{text}"


PLAIN = st.text() | st.integers() | st.floats() | st.none()


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6))
def test_json_in_a_script_element_is_the_same_value(value: Any) -> None:
    text = str(script_json(value))
    assert not set("<>&\u2028\u2029") & set(text)
    again = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert json.dumps(again) == json.dumps(known_to_json(value))


def known_to_json(value: Any) -> Any:
    """None for what is no number, names as texts; halves of pairs as their codes."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, list):
        return [known_to_json(one) for one in value]
    return {name: known_to_json(one) for name, one in value.items()} if isinstance(value, dict) else value


def test_hidden_signs_are_written_out() -> None:
    assert visible("a\x1b[0m\u202eb\r\nc\td") == "a⟨U+001B⟩[0m⟨U+202E⟩b\nc\td"
    assert visible("é 漢 👩‍👩‍👧 שלום") == "é 漢 👩‍👩‍👧 שלום", "scripts and joined signs stay as they are"


@pytest.mark.parametrize("length", [0, 10, 100, 101, 5000])
def test_a_cut_text_says_how_much_is_left_out(length: int) -> None:
    text = "".join(chr(97 + at % 26) for at in range(length))
    short = cut(text, 100)
    if length <= 100:
        assert short == text
        return
    head, rest = short.split(" […")
    left_out, tail = rest.split(" characters left out…] ")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head) + int(left_out.replace(",", "")) + len(tail) == length
