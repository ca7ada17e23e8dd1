"""LLaMA-Factory: the ids and labels of its encoding, where the formats agree; and where they do not, how they differ.

Its rule: a conversation is cut into pairs of a prompt and an answer, each piece of a format is encoded alone, and the
answer's pieces are labels, line ends after the end token included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest

from sft.data.render import Renderer
from sft.data.types import Conversation, Message, Source

Pairs = list[tuple[list[int], list[int]]]

SOURCE = Source("rows.jsonl", 1)
BOS, EOS = "\0bos", "\0eos"
THINK = "<think>\n\n</think>\n\n"
CHATML_SYSTEM = "<|im_start|>system\n{c}<|im_end|>\n"
CHATML_USER = "<|im_start|>user\n{c}<|im_end|>\n<|im_start|>assistant\n"
CHATML_TOOL = "<|im_start|>user\n<tool_response>\n{c}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
LLAMA3_HEAD = "<|start_header_id|>{role}<|end_header_id|>\n\n"


@dataclass(frozen=True)
class Formats:
    """What LLaMA-Factory registers under a name: pieces of text, ``BOS`` and ``EOS``."""

    user: tuple[str, ...]
    assistant: tuple[str, ...] = ("{c}", EOS)
    system: tuple[str, ...] = ("{c}",)
    prefix: tuple[str, ...] = ()
    default_system: str = ""
    folds_system: bool = False
    """The system text becomes part of the first question."""
    eos: str = "</s>"


def chatml(default_system: str = "", prefix: tuple[str, ...] = ()) -> Formats:
    return Formats(
        (CHATML_USER,), ("{c}<|im_end|>\n",), (CHATML_SYSTEM,), prefix, default_system=default_system, eos="<|im_end|>"
    )


def gemma() -> Formats:
    user = "<start_of_turn>user\n{c}<end_of_turn>\n<start_of_turn>model\n"
    return Formats((user,), ("{c}<end_of_turn>\n",), ("{c}\n\n",), (BOS,), folds_system=True, eos="<end_of_turn>")


def llama3() -> Formats:
    head = {role: LLAMA3_HEAD.replace("{role}", role) for role in ("system", "user", "assistant")}
    user = head["user"] + "{c}<|eot_id|>" + head["assistant"]
    return Formats((user,), ("{c}<|eot_id|>",), (head["system"] + "{c}<|eot_id|>",), (BOS,), eos="<|eot_id|>")


INTERN = (
    "You are an AI assistant whose name is InternLM (书生·浦语).\n"
    "- InternLM (书生·浦语) is a conversational language model that is developed by Shanghai AI Laboratory "
    "(上海人工智能实验室). It is designed to be helpful, honest, and harmless.\n"
    "- InternLM (书生·浦语) can understand and communicate fluently in the language chosen by the user such as "
    "English and 中文."
)
ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
PHI = Formats(
    ("<|user|>\n{c}<|end|>\n<|assistant|>\n",), ("{c}<|end|>\n",), ("<|system|>\n{c}<|end|>\n",), eos="<|end|>"
)
AGREEING: dict[str, tuple[str, Formats]] = {
    "alpaca": (
        "alpaca",
        Formats(("### Instruction:\n{c}\n\n### Response:\n",), ("{c}", EOS, "\n\n"), default_system=ALPACA),
    ),
    "chatml": ("chatml", chatml()),
    "chatml_de": ("chatml_de", chatml("Du bist ein freundlicher und hilfsbereiter KI-Assistent.")),
    "cpm4": ("cpm4", chatml(prefix=(BOS,))),
    "deepseek3": ("deepseek3", Formats(("<｜User｜>{c}<｜Assistant｜>",), prefix=(BOS,))),
    "default": (
        "llama_factory_default",
        Formats(("Human: {c}", EOS, "\nAssistant:"), ("{c}", EOS, "\n"), ("System: {c}", EOS, "\n")),
    ),
    "falcon_h1": ("falcon_h1", chatml(prefix=(BOS,))),
    "gemma": ("gemma", gemma()),
    "gemma3": ("gemma3", gemma()),
    "intern2": ("intern2", chatml(INTERN, (BOS,))),
    "llama3": ("llama3", llama3()),
    "mistral": (
        "mistral",
        Formats(("[INST] {c}[/INST]",), (" {c}", EOS), ("{c}\n\n",), (BOS,), folds_system=True),
    ),
    "opencoder": ("opencoder", chatml("You are OpenCoder, created by OpenCoder Team.")),
    "phi": ("phi", PHI),
    "phi4": (
        "phi4",
        Formats(
            ("<|im_start|>user<|im_sep|>{c}<|im_end|><|im_start|>assistant<|im_sep|>",),
            ("{c}<|im_end|>",),
            ("<|im_start|>system<|im_sep|>{c}<|im_end|>",),
            eos="<|im_end|>",
        ),
    ),
    "phi4_mini": (
        "phi4_mini",
        Formats(
            ("<|user|>{c}<|end|><|assistant|>",), ("{c}<|end|>",), ("<|system|>{c}<|end|>",), eos="<|end|>"
        ),
    ),
    "qwen": ("qwen", chatml("You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")),
    "qwen3_nothink": ("qwen3_nothink", chatml()),
    "smollm": ("smollm", chatml()),
    "smollm2": ("smollm2", chatml("You are a helpful AI assistant named SmolLM, trained by Hugging Face.")),
    "yi": ("yi", chatml()),
}  # fmt: skip
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
DIFFERING: dict[str, tuple[Formats, str, str]] = {
    "deepseek": (
        Formats(("User: {c}\n\nAssistant:",), system=("{c}\n\n",), prefix=(BOS,)),
        "<s>S\n\nUser: Q1\n\nAssistant:A1</s>User: Q2\n\nAssistant:A2</s>",
        "<s>S\n\nUser: Q1\n\nAssistant: A1</s>User: Q2\n\nAssistant: A2</s>",
    ),
    "empty": (Formats(("{c}",), ("{c}",)), "SQ1A1Q2A2", "SQ1A1</s>Q2A2</s>"),
    "llama2": (
        Formats((BOS, "[INST] {c} [/INST]"), system=("<<SYS>>\n{c}\n<</SYS>>\n\n",), folds_system=True),
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ1 [/INST]A1</s><s>[INST] Q2 [/INST]A2</s>",
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ1 [/INST] A1 </s><s>[INST] Q2 [/INST] A2 </s>",
    ),
    "vicuna": (
        Formats(("USER: {c} ASSISTANT:",), default_system=VICUNA),
        "SUSER: Q1 ASSISTANT:A1</s>USER: Q2 ASSISTANT:A2</s>",
        "S USER: Q1 ASSISTANT: A1</s>USER: Q2 ASSISTANT: A2</s>",
    ),
    "zephyr": (
        Formats(("<|user|>\n{c}", EOS, "<|assistant|>\n"), system=("<|system|>\n{c}", EOS)),
        "<|system|>\nS</s><|user|>\nQ1</s><|assistant|>\nA1</s><|user|>\nQ2</s><|assistant|>\nA2</s>",
        "<|system|>\nS</s>\n<|user|>\nQ1</s>\n<|assistant|>\nA1</s>\n<|user|>\nQ2</s>\n<|assistant|>\nA2</s>\n",
    ),
}
"""LLaMA-Factory's text and ours of S and two exchanges."""


def encode_pairs(tokenizer: Any, formats: Formats, system: str | None, exchanges: list[tuple[str, str]]) -> Pairs:
    """Ids of each prompt and of each answer."""
    specials = {BOS: tokenizer.bos_token_id, EOS: tokenizer.convert_tokens_to_ids(formats.eos)}

    def ids_of(pieces: tuple[str, ...], content: str = "") -> list[int]:
        found: list[int] = []
        for piece in pieces:
            if piece in specials:
                found.append(specials[piece])
            else:
                found += tokenizer.encode(piece.replace("{c}", content, 1), add_special_tokens=False)
        return found

    pairs = []
    chosen = system or formats.default_system
    for number, (question, answer) in enumerate(exchanges):
        prompt = ids_of(formats.prefix) if number == 0 else []
        if number == 0 and chosen and formats.folds_system:
            question = formats.system[0].replace("{c}", chosen) + question
        elif number == 0 and chosen:
            prompt = prompt + ids_of(formats.system, chosen)
        pairs.append((prompt + ids_of(formats.user, question), ids_of(formats.assistant, answer)))
    return pairs


def joined(tokenizer: Any, formats: Formats, pairs: Pairs) -> tuple[list[int], list[int]]:
    """Ids, and a mask of their labels but for what stands after the token that ends an answer (a line end, which no
    generation reaches)."""
    stop = tokenizer.convert_tokens_to_ids(formats.eos)
    ids: list[int] = []
    mask: list[int] = []
    for prompt, answer in pairs:
        trained = answer.index(stop) + 1 if stop in answer else len(answer)
        ids += prompt + answer
        mask += [0] * len(prompt) + [1] * trained + [0] * (len(answer) - trained)
    return ids, mask


def conversation_of(system: str | None, exchanges: list[tuple[str, str]]) -> Conversation:
    messages = [] if system is None else [Message(role="system", content=system)]
    for question, answer in exchanges:
        messages += [Message(role="user", content=question), Message(role="assistant", content=answer)]
    return Conversation(messages=tuple(messages), source=SOURCE)


ROWS: list[tuple[str | None, list[tuple[str, str]]]] = [
    (None, [("What is the capital of Spain?", "Madrid, of course")]),
    (None, [("one\n\ntwo", "three"), ("four  five", "It is\n\nParis."), ("What?", "one")]),
    ("Be short: one word.", [("one, two", "three"), ("four", "five")]),
]


@pytest.mark.parametrize("name", AGREEING)
@pytest.mark.parametrize(("system", "exchanges"), ROWS, ids=["one turn", "several turns", "system message"])
def test_ids_and_labels(tokenizer_of: Any, name: str, system: str | None, exchanges: list[tuple[str, str]]) -> None:
    ours, formats = AGREEING[name]
    tokenizer = tokenizer_of(ours)
    if name == "alpaca" and system is not None:
        system += "\n\n"  # theirs sets nothing between a system message and the first instruction
    ids, mask = joined(tokenizer, formats, encode_pairs(tokenizer, formats, system, exchanges))
    if name == "alpaca":
        ids, mask, system = ids[:-1], mask[:-1], system and system.strip()  # theirs ends with an empty line
    [example] = Renderer(tokenizer).render(conversation_of(system, exchanges))
    assert example.input_ids.tolist() == ids
    assert example.loss_mask.tolist() == mask


@pytest.mark.parametrize("name", DIFFERING)
def test_differences(tokenizer_of: Any, name: str) -> None:
    """The reason of each stands in docs/templates.md."""
    formats, theirs, ours = DIFFERING[name]
    tokenizer = tokenizer_of(name)
    exchanges = [("Q1", "A1"), ("Q2", "A2")]
    ids, _ = joined(tokenizer, formats, encode_pairs(tokenizer, formats, "S", exchanges))
    assert tokenizer.decode(ids) == theirs
    [example] = Renderer(tokenizer).render(conversation_of("S", exchanges))
    assert example.text == ours


TOOL = {"type": "function", "function": {"name": "rain", "parameters": {"type": "object", "properties": {}}}}
CALL = {"type": "function", "function": {"name": "rain", "arguments": {"city": "Bern"}}}


def test_tools_of_qwen(tokenizer_of: Any) -> None:
    """A call and a result are an answer and a prompt of their own; the tools end the system text."""
    tools = (
        "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        '{"type": "function", "function": {"name": "rain", "parameters": {"type": "object", "properties": {}}}}\n'
        "</tools>\n\nFor each function call, return a json object with function name and arguments within "
        '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
        "</tool_call>"
    )
    call = '<tool_call>\n{"name": "rain", "arguments": {"city": "Bern"}}\n</tool_call>'
    messages = (
        Message(role="system", content="S"),
        Message(role="user", content="Q1"),
        Message(role="assistant", content="", tool_calls=(CALL,)),
        Message(role="tool", content="yes"),
        Message(role="assistant", content="A1"),
    )
    for name in ("qwen", "qwen3_nothink"):
        tokenizer = tokenizer_of(name)
        asked = encode_pairs(tokenizer, chatml(), "S" + tools, [("Q1", call)])
        answered = encode_pairs(tokenizer, Formats((CHATML_TOOL,), ("{c}<|im_end|>\n",)), None, [("yes", "A1")])
        ids, mask = joined(tokenizer, chatml(), asked + answered)
        [example] = Renderer(tokenizer).render(Conversation(messages=messages, source=SOURCE, tools=(TOOL,)))
        assert example.input_ids.tolist() == ids
        assert example.loss_mask.tolist() == mask


# Thoughts: Qwen3's rule


def with_thoughts(pairs: Pairs, tokenizer: Any, *, enable_thinking: bool) -> tuple[list[int], list[int]]:
    """An answer without thoughts gets an empty block: in the answer, with loss, if thinking is enabled, else before
    it, without."""
    prompt, answer = pairs[-1]
    if "<think>" not in tokenizer.decode(answer):
        block = tokenizer.encode(THINK, add_special_tokens=False)
        prompt, answer = (prompt, block + answer) if enable_thinking else (prompt + block, answer)
    return joined(tokenizer, chatml(), [*pairs[:-1], (prompt, answer)])


def without_thoughts(text: str) -> str:
    return re.sub(r"<think>\n.*?\n</think>\n\n", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("enable_thinking", [True, False])
@pytest.mark.parametrize("answer", ["Madrid.", "<think>\none or two\n</think>\n\nMadrid."])
def test_thoughts_in_one_turn(tokenizer_of: Any, answer: str, enable_thinking: bool) -> None:
    """What is asked for by ``template_kwargs`` is what they do."""
    tokenizer = tokenizer_of("qwen3")
    theirs = answer if enable_thinking else without_thoughts(answer)
    pairs = encode_pairs(tokenizer, chatml(), None, [("Spain?", theirs)])
    ids, mask = with_thoughts(pairs, tokenizer, enable_thinking=enable_thinking)
    renderer = Renderer(tokenizer, template_kwargs={"enable_thinking": enable_thinking})
    [example] = renderer.render(conversation_of(None, [("Spain?", theirs)]))
    assert example.input_ids.tolist() == ids
    assert example.loss_mask.tolist() == mask


@pytest.mark.parametrize("answer", ["Madrid.", "<think>\none or two\n</think>\n\nMadrid."])
def test_without_being_asked_the_data_decide(tokenizer_of: Any, answer: str) -> None:
    """An empty block belongs to the prompt, thoughts belong to the answer."""
    tokenizer = tokenizer_of("qwen3")
    pairs = encode_pairs(tokenizer, chatml(), None, [("Spain?", answer)])
    ids, mask = with_thoughts(pairs, tokenizer, enable_thinking=False)
    renderer = Renderer(tokenizer)
    [example] = renderer.render(conversation_of(None, [("Spain?", answer)]))
    assert example.input_ids.tolist() == ids
    assert example.loss_mask.tolist() == mask
    assert renderer.generation_kwargs == ({} if answer.startswith("<think>") else {"enable_thinking": False})


def test_several_turns_are_trained_as_each_will_be_asked(tokenizer_of: Any) -> None:
    """They put thoughts before every answer of one sequence in training, and leave earlier ones out when they ask; ours
    are the sequences that they ask with."""
    tokenizer = tokenizer_of("qwen3")
    answers = ["<think>\nfour\n</think>\n\nfive", "one", "<think>\ntwo\n</think>\n\nthree"]
    exchanges = [(f"Q{number}", answer) for number, answer in enumerate(answers)]
    examples = Renderer(tokenizer).render(conversation_of("S", exchanges))
    assert len(examples) == 3
    for number, example in enumerate(examples):
        history = [(question, without_thoughts(answer)) for question, answer in exchanges[:number]]
        pairs = encode_pairs(tokenizer, chatml(), "S", [*history, exchanges[number]])
        ids, mask = with_thoughts(pairs, tokenizer, enable_thinking=False)
        last = len(ids) - len(pairs[-1][1])
        assert example.input_ids.tolist() == ids
        assert not example.loss_mask[:last].any()
        assert example.loss_mask[last:].tolist() == mask[last:]


def test_thoughts_of_deepseekr1(tokenizer_of: Any) -> None:
    """The same ids as theirs; the model's own prompt ends with <think>, which is therefore not trained."""
    tokenizer = tokenizer_of("deepseekr1")
    formats = AGREEING["deepseek3"][1]
    answer = "<think>\none or two\n</think>\n\nMadrid."
    ids, mask = joined(tokenizer, formats, encode_pairs(tokenizer, formats, "S", [("Spain?", answer)]))
    [example] = Renderer(tokenizer).render(conversation_of("S", [("Spain?", answer)]))
    opening = tokenizer.encode("<think>\n", add_special_tokens=False)
    start = mask.index(1)
    assert example.input_ids.tolist() == ids
    assert ids[start : start + len(opening)] == opening
    assert example.loss_mask.tolist() == [*mask[:start], *[0] * len(opening), *mask[start + len(opening) :]]
