"""The vendors' own templates, of which TRL keeps copies: ours write the same text, sampled conversations compared."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import jinja2
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from sft.data.templates import read_template

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'Today\'s weather, in "words"',
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    },
    {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}},
]
CALLS = [
    {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich"}}},
    {"type": "function", "function": {"name": "clock", "arguments": {}}},
]
CONTENTS = ["Hello", " two\n\nlines ", "ünï 中文", "a < b & c", "'single' \"double\"", "tab\tbed", "{{ braces }}"]

PAIRS = {
    # ours: the vendor's, whether it takes a system message, tools, text beside calls and several calls
    "qwen2.5": ("qwen2_5", True, True, True),
    "qwen3": ("qwen3", True, True, True),
    "qwen3_nothink": ("qwen3_instruct_2507", True, True, True),
    "llama3": ("llama3", True, False, False),
    "llama3.1": ("llama3_1", True, True, False),
    "gemma": ("gemma", False, False, False),
    "gemma3": ("gemma3", True, False, False),
    "phi3": ("phi3", True, False, False),
    "deepseek3": ("deepseekv3", True, False, False),
}


def vendors_text(file: str) -> str:
    spec = importlib.util.find_spec("trl")
    if spec is None or spec.origin is None:
        pytest.skip("TRL is not installed")
    path = Path(spec.origin).parent / "chat_templates" / f"{file}.jinja"
    if not path.is_file():
        pytest.skip(f"this release of TRL has no {path.name}")
    return path.read_text(encoding="utf-8")


def write(template: str, turns: list[dict[str, Any]], tools: Any, **variables: Any) -> str:
    tokens = {"bos_token": "<s>", "eos_token": "<｜end▁of▁sentence｜>"}
    texts, _ = render_jinja_template(conversations=[turns], tools=tools, chat_template=template, **tokens, **variables)
    return str(texts[0])


def sample(draw: random.Random, *, system: bool, tools: bool, rich: bool) -> list[dict[str, Any]]:
    """A conversation of one to three exchanges."""
    turns: list[dict[str, Any]] = []
    if system and draw.random() < 0.5:
        turns.append({"role": "system", "content": draw.choice(CONTENTS)})
    for _ in range(draw.randint(1, 3)):
        turns.append({"role": "user", "content": draw.choice(CONTENTS)})
        if tools and draw.random() < 0.5:
            calls = draw.sample(CALLS, draw.randint(1, 2) if rich else 1)
            content = draw.choice(["", "Let me look."]) if rich else ""
            turns.append({"role": "assistant", "content": content, "tool_calls": calls})
            turns += [{"role": "tool", "content": draw.choice(CONTENTS)} for _ in calls]
        turns.append({"role": "assistant", "content": draw.choice(CONTENTS)})
    return turns


@pytest.mark.parametrize("name", PAIRS)
def test_ours_write_what_the_vendors_write(name: str) -> None:
    file, system, tools, rich = PAIRS[name]
    theirs, ours = vendors_text(file), read_template(name)
    end = "<｜end▁of▁sentence｜>" if name == "phi3" else ""  # written after a conversation, never after a turn
    draw = random.Random(name)
    for number in range(60):
        turns = sample(draw, system=system, tools=tools, rich=rich)
        offered = TOOLS if tools and number % 2 else None
        assert write(ours, turns, offered) + end == write(theirs, turns, offered)
        while turns[-1]["role"] == "assistant":
            turns.pop()
        asked = write(ours, turns, offered, add_generation_prompt=True)
        if name == "deepseek3":  # the copy is DeepSeek-R1's in one thing: its prompt begins with thoughts
            asked += "<think>\n"
        assert asked == write(theirs, turns, offered, add_generation_prompt=True)


@pytest.mark.parametrize("thinking", [True, False])
def test_thoughts_of_qwen3(thinking: bool) -> None:
    theirs, ours = vendors_text("qwen3"), read_template("qwen3")
    draw = random.Random(thinking)
    for _ in range(40):
        turns = sample(draw, system=True, tools=True, rich=True)
        for turn in turns:
            if turn["role"] == "assistant" and draw.random() < 0.5:
                turn["reasoning_content"] = draw.choice(CONTENTS)
            elif turn["role"] == "assistant" and draw.random() < 0.3:
                turn["content"] = f"<think>\n{draw.choice(CONTENTS)}\n</think>\n\n{turn['content']}"
        for prompts in (False, True):
            variables = {"add_generation_prompt": prompts, "enable_thinking": thinking}
            assert write(ours, turns, TOOLS, **variables) == write(theirs, turns, TOOLS, **variables)


def test_what_the_vendor_refuses_and_ours_does_not() -> None:
    """Gemma 1 and 2 have no system turn; ours is written as Gemma 3 writes it."""
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    with pytest.raises(jinja2.TemplateError, match="System role not supported"):
        write(vendors_text("gemma"), turns, None)
    assert write(read_template("gemma"), turns, None) == write(vendors_text("gemma3"), turns, None)
