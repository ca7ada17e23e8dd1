"""docs/templates.md: names, end tokens and system messages are as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sft.data.render import Renderer
from sft.data.templates import template_names
from sft.data.types import Conversation, Message, Source
from sft.errors import RowError

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "templates.md").read_text(encoding="utf-8")
SOURCE = Source("rows.jsonl", 1)
EXCHANGE = (Message(role="user", content="Q1"), Message(role="assistant", content="A1"))


def table_rows() -> dict[str, list[str]]:
    """Cells of the rows that begin with a name."""
    lines = (re.split(r"(?<!\\)\|", line)[1:-1] for line in PAGE.splitlines() if line.startswith("| `"))
    rows = ([cell.strip().replace("\\|", "|") for cell in line] for line in lines)
    return {cells[0].strip("`"): cells for cells in rows}


ROWS = table_rows()
VENDORS = [name for name, cells in ROWS.items() if len(cells) == 6]


def test_every_name_is_described() -> None:
    assert list(ROWS) == [*sorted(VENDORS), *sorted(set(ROWS) - set(VENDORS))]
    assert set(ROWS) == set(template_names())


@pytest.mark.parametrize("name", ROWS)
def test_the_end_token_is_the_one_described(tokenizer_of: Any, name: str) -> None:
    described = ROWS[name][3 if name in VENDORS else 2]
    token = described.split(",")[0].strip("`")
    [example] = Renderer(tokenizer_of(name)).render(Conversation(messages=EXCHANGE, source=SOURCE))
    assert example.trained_text[0].endswith("</s>" if token == "eos_token" else token)


@pytest.mark.parametrize("name", VENDORS)
def test_a_system_message_of_its_own_is_described(tokenizer_of: Any, name: str) -> None:
    write = tokenizer_of(name).apply_chat_template
    asked = {"role": "user", "content": "Q1"}
    written = write([asked], tokenize=False).partition("Q1")[0]
    is_said = ROWS[name][2]
    assert {"yes": True, "no": False, "the dates": True}[is_said] == (len(written) > 60 or "helpful" in written)


@pytest.mark.parametrize("name", VENDORS)
def test_variants_of_firefly_are_described(name: str) -> None:
    says = ROWS[name][4]
    assert (f"firefly_{name}" in template_names()) == (says == f"`firefly_{name}`")


@pytest.mark.parametrize("answer", ["A1", "<think>\nhm\n</think>\n\nA1"])
def test_the_page_s_example_can_be_trained(new_tokenizer: Any, answer: str) -> None:
    [template] = re.findall(r"```jinja\n(.*?)```", PAGE, flags=re.DOTALL)
    tokenizer = new_tokenizer(template, special=("<s>", "</s>"), bos="<s>", eos="</s>")
    messages = (*EXCHANGE, Message(role="user", content="Q2"), Message(role="assistant", content=answer))
    [example] = Renderer(tokenizer).render(Conversation(messages=messages, source=SOURCE))
    assert example.text == f"<s>User: Q1\nBot: A1</s>\nUser: Q2\nBot: {answer}</s>\n"
    assert [text.strip() for text in example.trained_text] == ["A1</s>", f"{answer}</s>"]


def test_thoughts_are_refused_where_they_were_switched_off(tokenizer_of: Any) -> None:
    renderer = Renderer(tokenizer_of("qwen3"), template_kwargs={"enable_thinking": False})
    messages = (EXCHANGE[0], Message(role="assistant", content="<think>\nhm\n</think>\n\nA1"))
    with pytest.raises(RowError, match="the generation prompt is not the head of the answer"):
        renderer.render(Conversation(messages=messages, source=SOURCE))
