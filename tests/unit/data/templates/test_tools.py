"""Tools: what the templates with a place for them write, by hand from the vendors' descriptions."""

from __future__ import annotations

from typing import Any

import pytest

from sft.data.render import Renderer
from sft.data.types import Conversation, Message, Source
from sft.errors import RowError

TOOL = {
    "type": "function",
    "function": {"name": "rain", "description": "Is it raining?", "parameters": {"type": "object", "properties": {}}},
}
LINE = (
    '{"type": "function", "function": {"name": "rain", "description": "Is it raining?", '
    '"parameters": {"type": "object", "properties": {}}}}'
)
INDENTED = """{
    "type": "function",
    "function": {
        "name": "rain",
        "description": "Is it raining?",
        "parameters": {
            "type": "object",
            "properties": {}
        }
    }
}"""
CALL = {"type": "function", "function": {"name": "rain", "arguments": {"city": "Bern", "days": 2}}}
MESSAGES = (
    Message(role="user", content="Q1"),
    Message(role="assistant", content="", tool_calls=(CALL,)),
    Message(role="tool", content="yes"),
    Message(role="assistant", content="A1"),
)
QWEN_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n" + LINE + "\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within <tool_call></tool_call> "
    'XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
QWEN_TURNS = (
    "<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
    '{"name": "rain", "arguments": {"city": "Bern", "days": 2}}\n</tool_call><|im_end|>\n'
    "<|im_start|>user\n<tool_response>\nyes\n</tool_response><|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
)
QWEN3 = f"<|im_start|>system\n{QWEN_TOOLS}<|im_end|>\n{QWEN_TURNS}"
QWEN25 = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n"
    f"{QWEN_TOOLS}<|im_end|>\n{QWEN_TURNS}"
)
LLAMA_TURNS = (
    f"{INDENTED}\n\nQ1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    '{"name": "rain", "parameters": {"city": "Bern", "days": 2}}<|eot_id|>'
    "<|start_header_id|>ipython<|end_header_id|>\n\nRESULT<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>"
)
LLAMA_ASKS = (
    "<|start_header_id|>user<|end_header_id|>\n\nGiven the following functions, please respond with a JSON for a "
    "function call with its proper arguments that best answers the given prompt.\n\n"
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
)
WRITTEN = {
    "qwen": QWEN25,
    "qwen2.5": QWEN25,
    "qwen3": QWEN3.replace("\nA1", "\n<think>\n\n</think>\n\nA1"),
    "qwen3_nothink": QWEN3,
    "llama3": f"<s>{LLAMA_ASKS} Do not use variables.\n\n{LLAMA_TURNS.replace('RESULT', 'yes')}",
    "llama3.1": "<s><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
    + LLAMA_ASKS
    + "Do not use variables.\n\n"
    + LLAMA_TURNS.replace("RESULT", '"yes"'),
    "mistral": f"<s>[AVAILABLE_TOOLS] [{LINE}][/AVAILABLE_TOOLS][INST] Q1[/INST]"
    '[TOOL_CALLS] [{"name": "rain", "arguments": {"city": "Bern", "days": 2}}]</s>'
    '[TOOL_RESULTS] {"content": "yes"}[/TOOL_RESULTS] A1</s>',
    "chatglm3": "[gMASK]sop<|system|>\n Answer the following questions as best as you can. You have access to the "
    "following tools:\n[\n"
    + '    {\n        "name": "rain",\n        "description": "Is it raining?",\n        "parameters": {\n'
    + '            "type": "object",\n            "properties": {}\n        }\n    }'
    + "\n]<|user|>\n Q1<|assistant|>rain\n ```python\ntool_call(city='Bern', days=2)\n```<|observation|>\n yes"
    "<|assistant|>\n A1<|user|>",
    "phi4_mini": f"<|system|><|tool|>[{LINE}]<|/tool|><|end|><|user|>Q1<|end|>"
    '<|assistant|><|tool_call|>[{"name": "rain", "arguments": {"city": "Bern", "days": 2}}]<|/tool_call|><|end|>'
    "<|tool_response|>yes<|end|><|assistant|>A1<|end|>",
}
TRAINED_CALL = {
    "llama": '{"name": "rain", "parameters": {"city": "Bern", "days": 2}}<|eot_id|>',
    "qwen": '<tool_call>\n{"name": "rain", "arguments": {"city": "Bern", "days": 2}}\n</tool_call><|im_end|>',
    "mistra": '[TOOL_CALLS] [{"name": "rain", "arguments": {"city": "Bern", "days": 2}}]</s>',
    "chatgl": "rain\n ```python\ntool_call(city='Bern', days=2)\n```<|observation|>",
    "phi4_": '<|tool_call|>[{"name": "rain", "arguments": {"city": "Bern", "days": 2}}]<|/tool_call|><|end|>',
}


def conversation(*messages: Message) -> Conversation:
    return Conversation(messages=messages, source=Source("rows.jsonl", 1), tools=(TOOL,))


@pytest.mark.parametrize("name", WRITTEN)
def test_tools_calls_and_results(tokenizer_of: Any, name: str) -> None:
    turns = [message.for_template() for message in MESSAGES]
    assert tokenizer_of(name).apply_chat_template(turns, tools=[TOOL], tokenize=False) == WRITTEN[name]


@pytest.mark.parametrize("name", WRITTEN)
def test_calls_are_trained_with_the_token_that_ends_them(tokenizer_of: Any, name: str) -> None:
    examples = Renderer(tokenizer_of(name)).render(conversation(*MESSAGES))
    trained = [text for example in examples for text in example.trained_text]
    [expected] = [text for family, text in TRAINED_CALL.items() if name.startswith(family)]
    assert trained[0] == expected
    assert trained[1].strip().startswith("A1")
    assert len(trained) == 2


def test_a_system_message_stands_before_the_tools(tokenizer_of: Any) -> None:
    asked = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q1"}]
    for name in WRITTEN:
        written = tokenizer_of(name).apply_chat_template(asked, tools=[TOOL], tokenize=False)
        assert "S" in written.split('"rain"')[0 if name != "mistral" else 1]


@pytest.mark.parametrize("name", ["chatml", "gemma", "zephyr", "deepseek3", "firefly_qwen", "default"])
def test_templates_without_a_place_for_tools_refuse_them(tokenizer_of: Any, name: str) -> None:
    with pytest.raises(RowError, match="no place for tools"):
        Renderer(tokenizer_of(name)).render(conversation(*MESSAGES))


@pytest.mark.parametrize("name", ["chatml", "phi3", "zephyr", "default", "empty", "gemma"])
def test_a_call_is_never_left_out_in_silence(tokenizer_of: Any, name: str) -> None:
    """Not even one that is not trained."""
    untrained = Message(role="assistant", content="", tool_calls=(CALL,), train=False)
    messages = (MESSAGES[0], untrained, Message(role="user", content="Q2"), MESSAGES[3])
    with pytest.raises(RowError, match=r"(does not write|without) tool calls"):
        Renderer(tokenizer_of(name)).render(Conversation(messages=messages, source=Source("rows.jsonl", 1)))


@pytest.mark.parametrize("value", [True, None, "it's", 'a "b"', ["x", {"y": 1}], "two\nlines"])
def test_chatglm3_writes_arguments_as_python_does(tokenizer_of: Any, value: Any) -> None:
    call = {"type": "function", "function": {"name": "rain", "arguments": {"city": value}}}
    messages = (MESSAGES[0], Message(role="assistant", content="", tool_calls=(call,)))
    [example] = Renderer(tokenizer_of("chatglm3")).render(conversation(*messages))
    [trained] = example.trained_text
    assert trained == f"rain\n ```python\ntool_call(city={value!r})\n```<|observation|>"


@pytest.mark.parametrize("name", ["llama3", "llama3.1", "chatglm3"])
def test_several_calls_in_one_turn_are_refused_where_the_vendor_has_none(tokenizer_of: Any, name: str) -> None:
    message = Message(role="assistant", content="", tool_calls=(CALL, CALL))
    with pytest.raises(RowError, match="one tool call a turn"):
        Renderer(tokenizer_of(name)).render(conversation(MESSAGES[0], message))
