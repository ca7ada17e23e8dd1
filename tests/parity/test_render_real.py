"""Real tokenizers over real data: the text is the chat template's, the trained text is the data's answers."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sft.data.conversations import ConversationSet, read_conversations
from sft.data.render import Renderer
from sft.data.sources import parse_sources
from sft.data.templates import read_template
from sft.data.types import Conversation, Example, Message
from sft.errors import DataError, RowError
from sft.models.tokenizer import load_tokenizer

FILES = {
    "llamafactory/alpaca_en_demo.json": 999,
    "llamafactory/glaive_toolcall_en_demo.json": 300,
    "sharegpt/fastchat_dummy_conversation.json": 500,
    "sharegpt/sharegpt_zh_1K_format.jsonl": 1000,
}
TOKENIZERS = ("qwen3-tokenizer", "stories260K-hf", "gpt-neox-20b-tokenizer")
END = {"qwen3-tokenizer": "<|im_end|>", "stories260K-hf": "</s>", "gpt-neox-20b-tokenizer": "<|endoftext|>"}
SAMPLE = 150


@cache
def tokenizer_at(folder: Path) -> Any:
    return load_tokenizer(str(folder))


def read(path: Path, format_type: str | None = None) -> ConversationSet:
    specs = parse_sources(str(path), format_type=format_type)
    return read_conversations(specs, role_names={}, system_prompt=None, max_bad_rows=10**6, seed=0)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("file", FILES)
def test_a_sample(shared_data: Path, file: str, name: str) -> None:
    check_file(shared_data, file, name, slice(0, SAMPLE))


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_other_row(shared_data: Path, file: str) -> None:
    check_file(shared_data, file, "qwen3-tokenizer", slice(SAMPLE, None))


def check_file(shared_data: Path, file: str, name: str, rows: slice) -> None:
    tokenizer = tokenizer_at(shared_data / "models" / name)
    found = read(shared_data / file)
    assert found.num_rows == FILES[file]
    assert len(found.conversations) + found.rejected.total() == found.num_rows
    renderer = Renderer(tokenizer)
    rejected: Counter[str] = Counter()
    conversations = found.conversations[rows]
    for conversation in conversations:
        try:
            examples = renderer.render(conversation)
        except RowError as error:
            rejected[error.reason] += 1
            continue
        for example in examples:
            check_text(example, conversation, tokenizer)
        check_ids(examples[-1], tokenizer)
        check_answers(examples, conversation, tokenizer, END[name])
    assert set(rejected) <= {"the chat template has no place for tools"}
    assert name != "qwen3-tokenizer" or not rejected
    assert renderer.counts["conversations"] + rejected.total() == len(conversations)
    assert renderer.counts["special_text"] == renderer.counts["encoded_apart"] == 0
    assert renderer.generation_kwargs == ({"enable_thinking": False} if name == "qwen3-tokenizer" else {})


def check_text(example: Example, conversation: Conversation, tokenizer: Any) -> None:
    turns = conversation.messages if example.turn is None else conversation.messages[: example.turn + 1]
    messages = [message.for_template() for message in turns]
    assert example.text == tokenizer.apply_chat_template(
        messages, tools=list(conversation.tools) or None, tokenize=False
    )


def check_ids(example: Example, tokenizer: Any) -> None:
    """What ``apply_chat_template(tokenize=True)`` does with its text."""
    assert example.input_ids.tolist() == tokenizer(example.text, add_special_tokens=False)["input_ids"]


def check_answers(examples: list[Example], conversation: Conversation, tokenizer: Any, end: str) -> None:
    """Every answer of the data is trained once, with its end token, and nothing else is."""
    trained: dict[int, str] = {}
    for example in examples:
        edges = np.flatnonzero(np.diff(example.loss_mask.astype(bool), prepend=False, append=False)).reshape(-1, 2)
        texts = [tokenizer.decode(example.input_ids[start:stop]) for start, stop in edges]
        assert [normal(text) for text in texts] == [normal(text) for text in example.trained_text]
        trained |= dict(zip(example.trained_turns, texts, strict=True))
    answers = {turn: message for turn, message in enumerate(conversation.messages) if message.role == "assistant"}
    assert trained.keys() == answers.keys()
    for turn, message in answers.items():
        assert normal(trained[turn]) == normal(written(message) + end)


def written(message: Message) -> str:
    """An answer as every template here writes it: text, then calls in Hermes' form."""
    calls = (call["function"] for call in message.tool_calls)
    blocks = (
        f'<tool_call>\n{{"name": "{call["name"]}", "arguments": {json.dumps(call["arguments"], ensure_ascii=False)}}}'
        "\n</tool_call>"
        for call in calls
    )
    return "\n".join([*([message.content] if message.content else []), *blocks])


def normal(text: str) -> str:
    """Without white space at the start (a Llama tokenizer's) and in Unicode's composed form (Qwen's and NeoX')."""
    import unicodedata

    return unicodedata.normalize("NFC", text).lstrip()


def test_rows_that_hold_only_questions_are_all_rejected(shared_data: Path) -> None:
    with pytest.raises(DataError, match="all 80 rows are bad"):
        read(shared_data / "sharegpt/mt_bench_question.jsonl", "sharegpt")


@pytest.mark.parametrize(
    "rest", [{}, {"add_generation_prompt": True}, {"add_generation_prompt": True, "enable_thinking": False}]
)
def test_the_shipped_qwen3_template_writes_what_the_real_one_writes(shared_data: Path, rest: dict[str, Any]) -> None:
    tokenizer = tokenizer_at(shared_data / "models/qwen3-tokenizer")
    shipped = read_template("qwen3")
    files = ("llamafactory/glaive_toolcall_en_demo.json", "llamafactory/reason_tool_use_demo_50.jsonl")
    for conversation in [found for file in files for found in read(shared_data / file).conversations]:
        turns = [message.for_template() for message in conversation.messages]
        tools = list(conversation.tools) or None
        for number in range(1, len(turns) + 1):
            real = tokenizer.apply_chat_template(turns[:number], tools=tools, tokenize=False, **rest)
            ours = tokenizer.apply_chat_template(
                turns[:number], tools=tools, tokenize=False, chat_template=shipped, **rest
            )
            assert ours == real


def test_real_thoughts_and_tools_are_trained(shared_data: Path) -> None:
    renderer = Renderer(tokenizer_at(shared_data / "models/qwen3-tokenizer"))
    for conversation in read(shared_data / "llamafactory/reason_tool_use_demo_50.jsonl").conversations:
        for example in renderer.render(conversation):
            check_text(example, conversation, renderer.tokenizer)
            check_ids(example, renderer.tokenizer)
            for turn, text in zip(example.trained_turns, example.trained_text, strict=True):
                message = conversation.messages[turn]
                assert text.startswith("<think>") == bool(message.reasoning)
                assert (message.reasoning or "").strip() in text
                assert message.content.strip() in text
                assert all(call["function"]["name"] in text for call in message.tool_calls)
                assert text.endswith("<|im_end|>")
