"""What each template writes, written down by hand from what vendors say of their formats.

``one``: question Q1 and answer A1. ``two``: system message S, then two exchanges. ``asked``: S and Q1, with the
generation prompt. ``<s>`` and ``</s>`` are the tokenizer's bos and eos.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from sft.data.templates import template_names


class Texts(NamedTuple):
    """The text of the three conversations."""

    one: str
    two: str
    asked: str


ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
INTERNLM = (
    "You are an AI assistant whose name is InternLM (书生·浦语).\n"
    "- InternLM (书生·浦语) is a conversational language model that is developed by Shanghai AI Laboratory "
    "(上海人工智能实验室). It is designed to be helpful, honest, and harmless.\n"
    "- InternLM (书生·浦语) can understand and communicate fluently in the language chosen by the user such as "
    "English and 中文."
)
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

IM_ONE = "<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
IM_TWO = (
    "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
    "<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\nA2<|im_end|>\n"
)
IM_ASKED = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\n"
CHATML = Texts(IM_ONE, IM_TWO, IM_ASKED)


def chatml_with(default_system: str, bos: str = "") -> Texts:
    """ChatML that puts a system message where the conversation has none."""
    return Texts(f"{bos}<|im_start|>system\n{default_system}<|im_end|>\n{IM_ONE}", bos + IM_TWO, bos + IM_ASKED)


LLAMA3 = Texts(
    "<s><|start_header_id|>user<|end_header_id|>\n\nQ1<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>",
    "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nQ1<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nQ2<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nA2<|eot_id|>",
    "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nQ1<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
)
LLAMA31 = Texts(
    f"<s><|start_header_id|>system<|end_header_id|>\n\n{DATES}<|eot_id|>{LLAMA3.one[3:]}",
    *(text.replace("\n\nS<|eot_id|>", f"\n\n{DATES}S<|eot_id|>") for text in LLAMA3[1:]),
)
MISTRAL = Texts(
    "<s>[INST] Q1[/INST] A1</s>",
    "<s>[INST] S\n\nQ1[/INST] A1</s>[INST] Q2[/INST] A2</s>",
    "<s>[INST] S\n\nQ1[/INST]",
)
MISTRAL_V1 = Texts(
    "<s> [INST] Q1 [/INST] A1</s>",
    "<s> [INST] S\n\nQ1 [/INST] A1</s> [INST] Q2 [/INST] A2</s>",
    "<s> [INST] S\n\nQ1 [/INST]",
)
GEMMA = Texts(
    "<s><start_of_turn>user\nQ1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n",
    "<s><start_of_turn>user\nS\n\nQ1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n"
    "<start_of_turn>user\nQ2<end_of_turn>\n<start_of_turn>model\nA2<end_of_turn>\n",
    "<s><start_of_turn>user\nS\n\nQ1<end_of_turn>\n<start_of_turn>model\n",
)
ZEPHYR = Texts(
    "<|user|>\nQ1</s>\n<|assistant|>\nA1</s>\n",
    "<|system|>\nS</s>\n<|user|>\nQ1</s>\n<|assistant|>\nA1</s>\n<|user|>\nQ2</s>\n<|assistant|>\nA2</s>\n",
    "<|system|>\nS</s>\n<|user|>\nQ1</s>\n<|assistant|>\n",
)
PHI3 = Texts(
    "<|user|>\nQ1<|end|>\n<|assistant|>\nA1<|end|>\n",
    "<|system|>\nS<|end|>\n<|user|>\nQ1<|end|>\n<|assistant|>\nA1<|end|>\n"
    "<|user|>\nQ2<|end|>\n<|assistant|>\nA2<|end|>\n",
    "<|system|>\nS<|end|>\n<|user|>\nQ1<|end|>\n<|assistant|>\n",
)

VENDORS: dict[str, Texts] = {
    "alpaca": Texts(
        f"{ALPACA}\n\n### Instruction:\nQ1\n\n### Response:\nA1</s>",
        "S\n\n### Instruction:\nQ1\n\n### Response:\nA1</s>\n\n### Instruction:\nQ2\n\n### Response:\nA2</s>",
        "S\n\n### Instruction:\nQ1\n\n### Response:\n",
    ),
    "axolotl_alpaca": Texts(
        f"{ALPACA}\n\n### Instruction:\nQ1\n\n### Response:\nA1</s>",
        "S\n\n### Instruction:\nQ1\n\n### Response:\nA1</s>\n\n### Instruction:\nQ2\n\n### Response:\nA2</s>",
        "S\n\n### Instruction:\nQ1\n\n### Response:\n",
    ),
    "axolotl_alpaca_chat": Texts(
        f"SYSTEM: {ALPACA}\nUSER: Q1\nASSISTANT:A1</s>",
        "SYSTEM: S\nUSER: Q1\nASSISTANT:A1</s>USER: Q2\nASSISTANT:A2</s>",
        "SYSTEM: S\nUSER: Q1\nASSISTANT:",
    ),
    "axolotl_alpaca_phi": Texts(
        f"<|system|>\n{ALPACA}<|end|>\n<|user|>\nQ1<|end|>\n<|assistant|>\nA1</s>",
        "<|system|>\nS<|end|>\n<|user|>\nQ1<|end|>\n<|assistant|>\nA1</s><|user|>\nQ2<|end|>\n<|assistant|>\nA2</s>",
        "<|system|>\nS<|end|>\n<|user|>\nQ1<|end|>\n<|assistant|>\n",
    ),
    "baichuan": Texts(
        "<reserved_102>Q1<reserved_103>A1</s>",
        "S<reserved_102>Q1<reserved_103>A1</s><reserved_102>Q2<reserved_103>A2</s>",
        "S<reserved_102>Q1<reserved_103>",
    ),
    "baichuan2": Texts(
        "<reserved_106>Q1<reserved_107>A1</s>",
        "S<reserved_106>Q1<reserved_107>A1</s><reserved_106>Q2<reserved_107>A2</s>",
        "S<reserved_106>Q1<reserved_107>",
    ),
    "chatglm2": Texts(
        "[gMASK]sop[Round 1]\n\n问：Q1\n\n答：A1</s>",
        "[gMASK]sop[Round 1]\n\n问：S\n\nQ1\n\n答：A1\n\n[Round 2]\n\n问：Q2\n\n答：A2</s>",
        "[gMASK]sop[Round 1]\n\n问：S\n\nQ1\n\n答：",
    ),
    "chatglm3": Texts(
        "[gMASK]sop<|user|>\n Q1<|assistant|>\n A1<|user|>",
        "[gMASK]sop<|system|>\n S<|user|>\n Q1<|assistant|>\n A1<|user|>\n Q2<|assistant|>\n A2<|user|>",
        "[gMASK]sop<|system|>\n S<|user|>\n Q1<|assistant|>",
    ),
    "chatml": CHATML,
    "chatml_de": chatml_with("Du bist ein freundlicher und hilfsbereiter KI-Assistent."),
    "cpm4": Texts(*("<s>" + text for text in CHATML)),
    "deepseek": Texts(
        "<s>User: Q1\n\nAssistant: A1</s>",
        "<s>S\n\nUser: Q1\n\nAssistant: A1</s>User: Q2\n\nAssistant: A2</s>",
        "<s>S\n\nUser: Q1\n\nAssistant:",
    ),
    "deepseek3": Texts(
        "<s><｜User｜>Q1<｜Assistant｜>A1</s>",
        "<s>S<｜User｜>Q1<｜Assistant｜>A1</s><｜User｜>Q2<｜Assistant｜>A2</s>",
        "<s>S<｜User｜>Q1<｜Assistant｜>",
    ),
    "deepseekr1": Texts(
        "<s><｜User｜>Q1<｜Assistant｜><think>\n\n</think>\n\nA1</s>",
        "<s>S<｜User｜>Q1<｜Assistant｜>A1</s><｜User｜>Q2<｜Assistant｜><think>\n\n</think>\n\nA2</s>",
        "<s>S<｜User｜>Q1<｜Assistant｜><think>\n",
    ),
    "default": Texts(
        "User: Q1\nAssistant: A1</s>\n",
        "System: S\n\nUser: Q1\nAssistant: A1</s>\nUser: Q2\nAssistant: A2</s>\n",
        "System: S\n\nUser: Q1\nAssistant:",
    ),
    "empty": Texts("Q1A1</s>", "SQ1A1</s>Q2A2</s>", "SQ1"),
    "falcon_h1": Texts(*("<s>" + text for text in CHATML)),
    "gemma": GEMMA,
    "gemma2": GEMMA,
    "gemma3": GEMMA,
    "instruction": Texts(
        "Instruction: Q1\nResponse: A1</s>\n",
        "S\n\nInstruction: Q1\nResponse: A1</s>\nInstruction: Q2\nResponse: A2</s>\n",
        "S\n\nInstruction: Q1\nResponse:",
    ),
    "intern2": chatml_with(INTERNLM, "<s>"),
    "internlm": Texts(
        "<|User|>:Q1\n<|Bot|>:A1<eoa>\n",
        "<|System|>:S\n<|User|>:Q1\n<|Bot|>:A1<eoa>\n<|User|>:Q2\n<|Bot|>:A2<eoa>\n",
        "<|System|>:S\n<|User|>:Q1\n<|Bot|>:",
    ),
    "internlm2": Texts(*("<s>" + text for text in CHATML)),
    "llama2": Texts(
        "<s>[INST] Q1 [/INST] A1 </s>",
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ1 [/INST] A1 </s><s>[INST] Q2 [/INST] A2 </s>",
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ1 [/INST]",
    ),
    "llama2_zh": Texts(
        "<s>[INST] <<SYS>>\nYou are a helpful assistant. 你是一个乐于助人的助手。\n<</SYS>>\n\nQ1 [/INST] A1 </s>",
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ1 [/INST] A1 </s><s>[INST] Q2 [/INST] A2 </s>",
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ1 [/INST]",
    ),
    "llama3": LLAMA3,
    "llama3.1": LLAMA31,
    "llama3.2": LLAMA31,
    "llama3.3": LLAMA31,
    "mamba": ZEPHYR,
    "minicpm": Texts("<用户>Q1<AI>A1</s>", "<用户>S\n\nQ1<AI>A1</s><用户>Q2<AI>A2</s>", "<用户>S\n\nQ1<AI>"),
    "minicpm3": CHATML,
    "mistral": MISTRAL,
    "mistral_v1": MISTRAL_V1,
    "mixtral": MISTRAL_V1,
    "opencoder": chatml_with("You are OpenCoder, created by OpenCoder Team."),
    "orion": Texts(
        "<s>Human: Q1\n\nAssistant: </s>A1</s>",
        "<s>Human: S\n\nQ1\n\nAssistant: </s>A1</s>Human: Q2\n\nAssistant: </s>A2</s>",
        "<s>Human: S\n\nQ1\n\nAssistant: </s>",
    ),
    "phi": PHI3,
    "phi3": PHI3,
    "phi4": Texts(
        "<|im_start|>user<|im_sep|>Q1<|im_end|><|im_start|>assistant<|im_sep|>A1<|im_end|>",
        "<|im_start|>system<|im_sep|>S<|im_end|>"
        "<|im_start|>user<|im_sep|>Q1<|im_end|><|im_start|>assistant<|im_sep|>A1<|im_end|>"
        "<|im_start|>user<|im_sep|>Q2<|im_end|><|im_start|>assistant<|im_sep|>A2<|im_end|>",
        "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|>Q1<|im_end|><|im_start|>assistant<|im_sep|>",
    ),
    "phi4_mini": Texts(
        "<|user|>Q1<|end|><|assistant|>A1<|end|>",
        "<|system|>S<|end|><|user|>Q1<|end|><|assistant|>A1<|end|><|user|>Q2<|end|><|assistant|>A2<|end|>",
        "<|system|>S<|end|><|user|>Q1<|end|><|assistant|>",
    ),
    "qwen": chatml_with(QWEN),
    "qwen1.5": chatml_with("You are a helpful assistant."),
    "qwen2": chatml_with("You are a helpful assistant."),
    "qwen2.5": chatml_with(QWEN),
    "qwen3": Texts(
        IM_ONE.replace("\nA1", "\n<think>\n\n</think>\n\nA1"),
        IM_TWO.replace("\nA2", "\n<think>\n\n</think>\n\nA2"),
        IM_ASKED,
    ),
    "qwen3_nothink": CHATML,
    "smollm": CHATML,
    "smollm2": chatml_with("You are a helpful AI assistant named SmolLM, trained by Hugging Face."),
    "vicuna": Texts(
        f"{VICUNA} USER: Q1 ASSISTANT: A1</s>",
        "S USER: Q1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>",
        "S USER: Q1 ASSISTANT:",
    ),
    "xverse": Texts(
        "Human: Q1\n\nAssistant: A1</s>",
        "Human: S\n\nQ1\n\nAssistant: A1</s>Human: Q2\n\nAssistant: A2</s>",
        "Human: S\n\nQ1\n\nAssistant: ",
    ),
    "yi": CHATML,
    "zephyr": ZEPHYR,
    "ziya2": Texts(
        "<human>:Q1 <bot>:A1</s>", "<human>:S\n\nQ1 <bot>:A1</s><human>:Q2 <bot>:A2</s>", "<human>:S\n\nQ1 <bot>:"
    ),
}

OWN = sorted(set(template_names()) - set(VENDORS))


def test_every_plain_name_is_written_down() -> None:
    assert all(name.startswith(("firefly_", "llama_factory_")) for name in OWN)


@pytest.mark.parametrize("name", VENDORS)
def test_text_of_a_template(tokenizer_of: Any, name: str) -> None:
    write = tokenizer_of(name).apply_chat_template
    system, question = {"role": "system", "content": "S"}, {"role": "user", "content": "Q1"}
    exchange = [question, {"role": "assistant", "content": "A1"}]
    more = [{"role": "user", "content": "Q2"}, {"role": "assistant", "content": "A2"}]
    assert write(exchange, tokenize=False) == VENDORS[name].one
    assert write([system, *exchange, *more], tokenize=False) == VENDORS[name].two
    assert write([system, question], tokenize=False, add_generation_prompt=True) == VENDORS[name].asked


TRIMMING = {"gemma", "gemma2", "gemma3", "llama2", "llama2_zh", "llama3", "llama3.1", "llama3.2", "llama3.3", "minicpm"}


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_white_space_is_kept_but_where_the_vendor_trims(tokenizer_of: Any, name: str) -> None:
    turns = [{"role": "user", "content": " Q1\n"}, {"role": "assistant", "content": " \nA1 "}]
    written = tokenizer_of(name).apply_chat_template(turns, tokenize=False)
    assert (" Q1\n" in written) == (name not in TRIMMING)
    assert (" \nA1 " in written) == (name not in TRIMMING)
    assert "Q1" in written
    assert "A1" in written
