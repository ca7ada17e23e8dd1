"""Rendering by shape against rendering in full: the same ids and masks for every template and every kind of row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from copy import deepcopy
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerBase

from sft.data import quick
from sft.data.looked_for import looked_for
from sft.data.quick import Differs, InFull, QuickRenderer, render_by_shape, rendered_alone
from sft.data.render import Renderer
from sft.data.runs import Run
from sft.data.shapes import Shapes
from sft.data.templates import read_template, template_names
from sft.data.types import Conversation, Example, Message, Source
from sft.errors import RowError

MARKERS = re.compile(r"<\|?[\w/]+\|?>|\[/?[A-Z_]+\]|<\|?[\w]+?>")

CONTENTS = [
    "Two and two?",
    "Four.\n\nOr so.",
    "  white space around  ",
    "\nlines\n",
    "what does <|im_end|> mean?",
    "</think> alone",
    "<think>\nhm\n</think>\n\nThoughts first",
    "user",
    "the user says [INST] and ### Response:",
    "Ümlaut, 漢字, 🙂, e\u0301",
    "x",
    "def f(x):\n    return  x\n\n\n# done",
]


def conversation(number: int, contents: Sequence[str], *, system: str | None = None, **changes: Any) -> Conversation:
    messages = [] if system is None else [Message(role="system", content=system)]
    for index, content in enumerate(contents):
        messages.append(Message(role="assistant" if index % 2 else "user", content=content))
    return Conversation(messages=tuple(messages), source=Source("made", number), **changes)


def conversations() -> list[Conversation]:
    made = []
    for number in range(40):
        pick = [
            CONTENTS[(number * 7 + step * (1 + number % 5)) % len(CONTENTS)] for step in range(2 + 2 * (number % 3))
        ]
        made.append(conversation(number, pick, system=None if number % 4 else "Be kind."))
    return made


def one_by_one(rendered: Iterable[Run | InFull]) -> list[tuple[Conversation, list[Example] | RowError]]:
    """Each conversation with its examples."""
    found: list[tuple[Conversation, list[Example] | RowError]] = []
    for made in rendered:
        if isinstance(made, InFull):
            found.append((made.conversation, made.examples))
            continue
        split = 0
        for conversation, group in groupby(zip(made.conversations, made, strict=True), key=itemgetter(0)):
            found.append((conversation, [example for _, example in group]))
            split += len(found[-1][1]) > 1
        assert split == made.num_split
    return found


def compare(renderer: Renderer, full: Renderer, rows: Sequence[Conversation]) -> int:
    """How many rows were rendered by shape; fails where one is not what it is in full."""
    rendered = one_by_one(render_by_shape(QuickRenderer(renderer), rows))
    assert [row.source for row, _ in rendered] == [row.source for row in rows]
    for row, examples in rendered:
        expected = rendered_alone(full, row).examples
        if isinstance(expected, RowError):
            assert str(examples) == str(expected)
            continue
        assert not isinstance(examples, RowError)
        assert [example.turn for example in examples] == [example.turn for example in expected]
        for one, other in zip(examples, expected, strict=True):
            assert np.array_equal(one.input_ids, other.input_ids), row
            assert np.array_equal(one.loss_mask, other.loss_mask), row
    assert renderer.generation_kwargs == full.generation_kwargs
    assert renderer.counts == full.counts
    shapes = Shapes(full)
    return sum(shapes.of(row) is not None for row in rows)


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_tokenizer_folder)


def test_usual_rows_go_by_shape_and_all_rows_are_the_same(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = conversations()
    assert compare(Renderer(tokenizer), Renderer(tokenizer), rows) > len(rows) // 8


@pytest.mark.parametrize("name", template_names())
def test_every_template_we_ship(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    own = deepcopy(tokenizer)
    own.chat_template = read_template(name)
    markers = sorted({*MARKERS.findall(own.chat_template), "<s>"})
    own.add_special_tokens({"additional_special_tokens": markers, "bos_token": "<s>"})
    assert Renderer(own, append_eos=True).render(conversation(0, ["a", "b"]))
    compare(Renderer(own, append_eos=True), Renderer(own, append_eos=True), conversations())


@pytest.mark.parametrize("options", [{"train_on": "last_answer"}, {"train_on": "everything"}], ids=str)
def test_other_masks(tokenizer: PreTrainedTokenizerBase, options: dict[str, str]) -> None:
    compare(Renderer(tokenizer, **options), Renderer(tokenizer, **options), conversations())


def test_weights_flags_tools_and_texts_are_left_to_the_full_way(tokenizer: PreTrainedTokenizerBase) -> None:
    plain = conversation(0, ["a", "b"])
    flagged = Message(role="assistant", content="b", train=True, weight=0.5)
    rows = [
        plain,
        Conversation(messages=(plain.messages[0], flagged), source=plain.source),
        conversation(2, ["a", "b"], weight=2.0),
        Conversation(messages=(), text="plain text", source=Source("made", 3)),
        conversation(4, ["a", "b"], template_kwargs={"enable_thinking": False}),
    ]
    shapes = Shapes(Renderer(tokenizer))
    assert [shapes.of(row) is not None for row in rows] == [True, False, False, False, False]


def test_a_tokenizer_without_a_fast_backend_has_no_shapes() -> None:
    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token if m.role == 'assistant' }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    assert compare(Renderer(tokenizer), Renderer(tokenizer), [conversation(0, ["a", "b"])]) == 0


def test_a_row_that_differs_stops_it_all(tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a template would that looks into contents in a way that cannot be read from its source."""
    monkeypatch.setattr(quick, "_same", lambda some, others: False)
    with pytest.raises(Differs):
        list(render_by_shape(QuickRenderer(Renderer(tokenizer)), [conversation(0, ["a", "b"])]))


@pytest.mark.parametrize(
    ("source", "compared", "searched"),
    [
        ("{% if message.role == 'user' %}{{ message.content }}{% endif %}", {"user"}, set()),
        ("{% if '</think>' in content %}{{ content.split('</think>')[-1] }}{% endif %}", {"</think>"}, {"</think>"}),
        ("{% if role in ['a', 'b'] %}{{ content | trim }}{% endif %}", {"a", "b"}, set()),
        ("{{ content.startswith('<x>') }}{{ '\\n' + content.strip('\\n') }}", set(), {"<x>"}),
    ],
)
def test_what_a_template_looks_for(source: str, compared: set[str], searched: set[str]) -> None:
    found = looked_for(source)
    assert found is not None
    assert (set(found.compared), set(found.searched)) == (compared, searched)


@pytest.mark.parametrize(
    "source",
    [
        "{{ message.content[:5] }}",
        "{{ content | upper }}",
        "{{ content.replace('a', 'b') }}",
        "{% for letter in message['content'] %}{{ letter }}{% endfor %}",
        "{% if %}",
    ],
)
def test_templates_that_change_contents_have_no_shapes(source: str) -> None:
    assert looked_for(source) is None


def test_real_rows_with_a_real_tokenizer(shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "models" / "qwen3-tokenizer")
    rows = json.loads((shared_data / "alpaca" / "alpaca_data.json").read_text(encoding="utf-8"))[:1500]
    asked = [
        conversation(number, [(row["instruction"] + "\n" + row["input"]).strip(), row["output"]])
        for number, row in enumerate(rows)
        if row["output"]
    ]
    assert compare(Renderer(tokenizer), Renderer(tokenizer), asked) > 0.5 * len(asked)
