"""The shipped templates: what they write, and that a template can carry defaults for its variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sft.data.render import Renderer
from sft.data.templates import read_template, with_bos, with_default_kwargs
from sft.data.types import Conversation, Message, Source
from sft.errors import ConfigError

MESSAGES = (
    Message(role="system", content="Be short."),
    Message(role="user", content="What is two?"),
    Message(role="assistant", content="one one"),
    Message(role="user", content="And three?"),
    Message(role="assistant", content="two one"),
)
CONVERSATION = Conversation(messages=MESSAGES, source=Source("rows.jsonl", 1))

VICUNA = "Be short. USER: What is two? ASSISTANT: one one</s>USER: And three? ASSISTANT: two one</s>"
CHATML = (
    "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nWhat is two?<|im_end|>\n"
    "<|im_start|>assistant\none one<|im_end|>\n<|im_start|>user\nAnd three?<|im_end|>\n"
)
WRITTEN = {
    "alpaca": "Be short.\n\n### Instruction:\nWhat is two?\n\n### Response:\none one</s>"
    "\n\n### Instruction:\nAnd three?\n\n### Response:\ntwo one</s>",
    "chatml": f"{CHATML}<|im_start|>assistant\ntwo one<|im_end|>\n",
    "default": "System: Be short.\n\nUser: What is two?\nAssistant: one one</s>\n"
    "User: And three?\nAssistant: two one</s>\n",
    "gemma": "<s><start_of_turn>user\nBe short.\n\nWhat is two?<end_of_turn>\n"
    "<start_of_turn>model\none one<end_of_turn>\n"
    "<start_of_turn>user\nAnd three?<end_of_turn>\n<start_of_turn>model\ntwo one<end_of_turn>\n",
    "instruction": "Be short.\n\nInstruction: What is two?\nResponse: one one</s>\n"
    "Instruction: And three?\nResponse: two one</s>\n",
    "llama2": "<s>[INST] <<SYS>>\nBe short.\n<</SYS>>\n\nWhat is two? [/INST] one one </s>"
    "<s>[INST] And three? [/INST] two one </s>",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe short.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhat is two?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\none one<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nAnd three?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\ntwo one<|eot_id|>",
    "mistral": "<s>[INST] Be short.\n\nWhat is two?[/INST] one one</s>[INST] And three?[/INST] two one</s>",
    "phi3": "<|system|>\nBe short.<|end|>\n<|user|>\nWhat is two?<|end|>\n<|assistant|>\none one<|end|>\n"
    "<|user|>\nAnd three?<|end|>\n<|assistant|>\ntwo one<|end|>\n",
    "qwen": f"{CHATML}<|im_start|>assistant\ntwo one<|im_end|>\n",
    "qwen3": f"{CHATML}<|im_start|>assistant\n<think>\n\n</think>\n\ntwo one<|im_end|>\n",
    "vicuna": VICUNA,
    "zephyr": "<|system|>\nBe short.</s>\n<|user|>\nWhat is two?</s>\n<|assistant|>\none one</s>\n"
    "<|user|>\nAnd three?</s>\n<|assistant|>\ntwo one</s>\n",
}
TOKENS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|end|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>")


@pytest.mark.parametrize("name", WRITTEN)
def test_what_a_template_writes(new_tokenizer: Any, name: str) -> None:
    tokenizer = new_tokenizer(name, special=TOKENS, eos="</s>", bos="<s>")
    turns = [message.for_template() for message in MESSAGES]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == WRITTEN[name]


@pytest.mark.parametrize("name", WRITTEN)
def test_answers_end_with_a_token_and_follow_the_prompt_without_a_straddling_one(new_tokenizer: Any, name: str) -> None:
    tokenizer = new_tokenizer(name, special=TOKENS, eos="</s>", bos="<s>")
    renderer = Renderer(tokenizer)
    examples = renderer.render(CONVERSATION)
    assert renderer.counts["encoded_apart"] == 0
    assert len(examples) == (2 if name == "qwen3" else 1)
    trained = [text for example in examples for text in example.trained_text]
    assert [text.strip().split("<")[0].strip() for text in trained] == ["one one", "two one"]
    assert all(text.endswith(TOKENS) for text in trained)
    prompt = renderer.generation_ids(MESSAGES[:4])
    assert examples[-1].input_ids[: len(prompt)].tolist() == prompt


@pytest.mark.parametrize("name", sorted(set(WRITTEN) - {"qwen", "alpaca", "vicuna"}))
def test_templates_add_no_system_message(new_tokenizer: Any, name: str) -> None:
    tokenizer = new_tokenizer(name, special=TOKENS, eos="</s>", bos="<s>")
    written = tokenizer.apply_chat_template([message.for_template() for message in MESSAGES[1:]], tokenize=False)
    assert "helpful" not in written
    assert "system" not in written.lower()


def test_default_system_messages(new_tokenizer: Any) -> None:
    turns = [message.for_template() for message in MESSAGES[1:3]]
    heads = {
        "qwen": "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n",
        "alpaca": "Below is an instruction that describes a task. ",
        "vicuna": "A chat between a curious user and an artificial intelligence assistant. ",
    }
    for name, head in heads.items():
        tokenizer = new_tokenizer(name, special=TOKENS, eos="</s>")
        assert tokenizer.apply_chat_template(turns, tokenize=False).startswith(head)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama3", '{"name": "weather", "parameters": {"city": "Paris"}}<|eot_id|>'),
        ("mistral", '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris"}}]</s>'),
        ("qwen", '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call><|im_end|>'),
        ("qwen3", '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call><|im_end|>'),
    ],
)
def test_tools(new_tokenizer: Any, name: str, expected: str) -> None:
    tokenizer = new_tokenizer(name, special=(*TOKENS, "[TOOL_CALLS]"), eos="</s>", bos="<s>")
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    messages = (
        Message(role="user", content="Weather?"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="rain"),
        Message(role="assistant", content="It rains."),
    )
    examples = Renderer(tokenizer).render(Conversation(messages=messages, source=Source("a", 1), tools=(tool,)))
    assert examples[0].trained_text[0] == expected
    assert '"name": "weather"' in examples[-1].text.split("Weather?")[0]
    assert "rain" in examples[-1].text.split("It rains")[0].split(expected)[1]


# Reading


def test_a_template_may_be_a_file_or_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{{ messages[0].content }}", encoding="utf-8")
    assert read_template(str(path)) == "{{ messages[0].content }}"
    assert read_template("{{ messages }}") == "{{ messages }}"


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean zephyr"):
        read_template("zefyr")


# Defaults


@pytest.mark.parametrize(
    "template",
    [
        "{{ a }}|{{ b }}|{{ messages[0].content }}",
        "\n  {% if a %}yes{% endif %}\n{{ b }}",
        "  {%- for m in messages %}{{ a }}{{ m.content }}{% if b is defined %}{{ b }}{% endif %}{% endfor %}\n",
        "text {% set c = a %}{{ c }}{{ b }}",
        "{% macro m() %}{{ a }}{% endmacro %}{{ m() }}{{ b }}",
    ],
)
@pytest.mark.parametrize("value", [False, True, None, 3, 1.5, 'it\'s "x" \\ \n {{ é', ["a", {"b": None}]])
def test_a_default_writes_what_the_variable_writes(new_tokenizer: Any, template: str, value: Any) -> None:
    turns = [message.for_template() for message in MESSAGES]
    kwargs = {"a": value, "b": "B"}
    given = new_tokenizer(template).apply_chat_template(turns, tokenize=False, **kwargs)
    changed = new_tokenizer(with_default_kwargs(template, kwargs))
    assert changed.apply_chat_template(turns, tokenize=False) == given
    other = new_tokenizer(template).apply_chat_template(turns, tokenize=False, a="other", b="B")
    assert changed.apply_chat_template(turns, tokenize=False, a="other") == other


def test_a_saved_default_gives_everyone_the_trained_prompt(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer("qwen3")
    renderer = Renderer(tokenizer)
    renderer.render(CONVERSATION)
    asked = [message.for_template() for message in MESSAGES[:4]]
    trained_prompt = renderer.generation_prompt(MESSAGES[:4])
    assert tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) != trained_prompt
    tokenizer.chat_template = with_default_kwargs(tokenizer.chat_template, renderer.generation_kwargs)
    assert tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) == trained_prompt


def test_a_saved_default_can_be_trained_away_again(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer(with_default_kwargs(read_template("qwen3"), {"enable_thinking": False}))
    renderer = Renderer(tokenizer)
    thoughtful = (MESSAGES[1], Message(role="assistant", content="one one", reasoning="one and one"))
    [example] = renderer.render(Conversation(messages=thoughtful, source=Source("rows.jsonl", 1)))
    assert example.trained_text == ("<think>\none and one\n</think>\n\none one<|im_end|>",)
    assert renderer.generation_kwargs == {"enable_thinking": True}


def test_with_bos(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer(with_bos(read_template("default")), special=TOKENS, eos="</s>", bos="<s>")
    turns = [message.for_template() for message in MESSAGES]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == "<s>" + WRITTEN["default"]
