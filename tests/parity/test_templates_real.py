"""The two tools' encodings over real rows with real tokenizers: same ids and labels where the design mends nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sft.data.conversations import read_conversations
from sft.data.render import Renderer
from sft.data.sources import parse_sources
from sft.models.tokenizer import load_tokenizer

ROWS = 250
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
IM_SYSTEM = "<|im_start|>system\n{c}<|im_end|>\n"
IM_USER = "<|im_start|>user\n{c}<|im_end|>\n<|im_start|>assistant\n"


TOOLS = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>{c}\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within <tool_call></tool_call> "
    'XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


def render(tokenizer: Any, path: Path) -> list[Any]:
    specs = parse_sources(str(path))
    found = read_conversations(specs, role_names={}, system_prompt=None, input_separator="\n", max_bad_rows=0, seed=0)
    renderer = Renderer(tokenizer)
    examples = [renderer.render(conversation) for conversation in found.conversations[:ROWS]]
    assert all(len(of_row) == 1 for of_row in examples)
    return [of_row[0] for of_row in examples]


@pytest.mark.parametrize(
    ("template", "system"), [("qwen", QWEN_SYSTEM), ("qwen3_nothink", None)], ids=["qwen", "nothink"]
)
def test_llama_factory_on_its_own_rows(shared_data: Path, template: str, system: str | None) -> None:
    """Seed 2 trains Qwen3 with the template ``qwen`` on such rows."""
    path = shared_data / "llamafactory/alpaca_en_demo.json"
    tokenizer = load_tokenizer(str(shared_data / "models/qwen3-tokenizer"), chat_template=template)
    rows = json.loads(path.read_text(encoding="utf-8"))[:ROWS]

    def ids_of(piece: str, content: str) -> list[int]:
        return list(tokenizer.encode(piece.replace("{c}", content, 1), add_special_tokens=False))

    for row, example in zip(rows, render(tokenizer, path), strict=True):
        question = row["instruction"] + ("\n" + row["input"] if row["input"] else "")
        prompt = (ids_of(IM_SYSTEM, system) if system else []) + ids_of(IM_USER, question)
        answer = ids_of("{c}<|im_end|>\n", row["output"])
        assert example.input_ids.tolist() == prompt + answer
        assert example.loss_mask.tolist() == [0] * len(prompt) + [1] * (len(answer) - 1) + [0]  # but for the line end


def test_llama_factory_on_its_own_tool_calls(shared_data: Path) -> None:
    """Calls and results of the model's are turns; the tools stand in the system text, each as servers send it."""
    path = shared_data / "llamafactory/glaive_toolcall_en_demo.json"
    tokenizer = load_tokenizer(str(shared_data / "models/qwen3-tokenizer"), chat_template="qwen")
    rows = json.loads(path.read_text(encoding="utf-8"))[:ROWS]
    for row, example in zip(rows, render(tokenizer, path), strict=True):
        ids: list[int] = []
        mask: list[int] = []
        system = IM_SYSTEM.replace("{c}", QWEN_SYSTEM + tools_of(row))
        for number, turn in enumerate(row["conversations"]):
            text = ("" if number else system) + text_of(turn["from"], turn["value"])
            found = list(tokenizer.encode(text, add_special_tokens=False))
            is_answer = turn["from"] in ("gpt", "function_call")
            ids += found
            mask += [1] * (len(found) - 1) + [0] if is_answer else [0] * len(found)
        assert example.input_ids.tolist() == ids
        assert example.loss_mask.tolist() == mask


def tools_of(row: dict[str, Any]) -> str:
    tools = json.loads(row["tools"]) if row["tools"] else []
    lines = [json.dumps({"type": "function", "function": tool}, ensure_ascii=False) for tool in tools]
    return TOOLS.replace("{c}", "".join(f"\n{line}" for line in lines)) if tools else ""


def text_of(role: str, value: str) -> str:
    if role == "human":
        return IM_USER.replace("{c}", value)
    if role == "observation":
        return IM_USER.replace("{c}", f"<tool_response>\n{value}\n</tool_response>")
    if role == "function_call":
        call = json.loads(value)
        written = json.dumps({"name": call["name"], "arguments": call["arguments"]}, ensure_ascii=False)
        value = f"<tool_call>\n{written}\n</tool_call>"
    return f"{value}<|im_end|>\n"


def test_firefly_s_mamba_on_its_own_rows(shared_data: Path) -> None:
    """The fork's text with the end token that Mamba has: its own wrote ``</s>``, four ordinary tokens."""
    path = shared_data / "firefly/dummy_data.jsonl"
    tokenizer = load_tokenizer(str(shared_data / "models/gpt-neox-20b-tokenizer"), chat_template="mamba")
    assert tokenizer.eos_token == "<|endoftext|>"
    assert len(tokenizer.encode("</s>", add_special_tokens=False)) > 1
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][:ROWS]

    def ids_of(piece: str, content: str, end: str) -> list[int]:
        text = piece.replace("{end}", end).replace("{c}", content.strip())
        return list(tokenizer.encode(text, add_special_tokens=False))

    for row, example in zip(rows, render(tokenizer, path), strict=True):
        ids: list[int] = []
        mask: list[int] = []
        for turn in row["conversation"]:
            asked = ids_of("<|user|>\n{c}{end}\n<|assistant|>\n", turn["human"], tokenizer.eos_token)
            answered = ids_of("{c}{end}\n", turn["assistant"], tokenizer.eos_token)
            ids += asked + answered
            mask += [0] * len(asked) + [1] * (len(answered) - 1) + [0]
            assert tokenizer.eos_token_id not in ids_of("{c}{end}\n", turn["assistant"], "</s>")
        assert example.input_ids.tolist() == ids
        assert example.loss_mask.tolist() == mask
