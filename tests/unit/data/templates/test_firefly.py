"""Firefly: its own texts where they differ from the vendors', and the ids and labels of its encoding."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from sft.data.render import Renderer
from sft.data.templates import template_names
from sft.data.types import Conversation, Message, Source
from sft.errors import ConfigError, RowError


class Texts(NamedTuple):
    """One exchange; a system message S and two exchanges; S and Q1 with the generation prompt."""

    one: str
    two: str
    asked: str


LLAMA2 = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe. "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering something "
    "not correct. If you don't know the answer to a question, please don't share false information."
)
INTERNLM = (
    "You are an AI assistant whose name is InternLM (书生·浦语).\n"
    "- InternLM (书生·浦语) is a conversational language model that is developed by Shanghai AI Laboratory "
    "(上海人工智能实验室). It is designed to be helpful, honest, and harmless.\n"
    "- InternLM (书生·浦语) can understand and communicate fluently in the language chosen by the user such as "
    "English and 中文."
)
GLM3 = (
    "You are ChatGLM3, a large language model trained by Zhipu.AI. Follow the user's instructions carefully. "
    "Respond using markdown."
)
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
IM_ONE = "<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
IM_TWO = (
    "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
    "<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\nA2<|im_end|>\n"
)
IM_ASKED = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\n"


def chatml_with(default_system: str) -> Texts:
    """ChatML with this system message where the conversation has none."""
    return Texts(f"<|im_start|>system\n{default_system}<|im_end|>\n{IM_ONE}", IM_TWO, IM_ASKED)


NO_SYSTEM = ""
"""In place of a text: the template refuses a system message."""

FIREFLY: dict[str, Texts] = {
    "firefly_chatglm2": Texts("[gMASK]sop[Round 1]\n\n问：Q1\n\n答：A1</s>", NO_SYSTEM, NO_SYSTEM),
    "firefly_chatglm3": Texts(
        f"[gMASK]sop<|system|>{GLM3}<|user|>Q1<|assistant|>A1</s>",
        "[gMASK]sop<|system|>S<|user|>Q1<|assistant|>A1</s><|user|>Q2<|assistant|>A2</s>",
        "[gMASK]sop<|system|>S<|user|>Q1<|assistant|>",
    ),
    "firefly_deepseek": Texts("User: Q1\n\nAssistant: A1</s>", NO_SYSTEM, NO_SYSTEM),
    "firefly_default": Texts(
        "User: Q1\nAssistant: A1 </s>",
        "System: S\n\nUser: Q1\nAssistant: A1 </s>User: Q2\nAssistant: A2 </s>",
        "System: S\n\nUser: Q1\nAssistant: ",
    ),
    "firefly_gemma": Texts(
        "<s><start_of_turn>user\nQ1<end_of_turn>\n<start_of_turn>model\nA1</s>\n", NO_SYSTEM, NO_SYSTEM
    ),
    "firefly_internlm": Texts(
        f"<|System|>:{INTERNLM}\n<|User|>:Q1\n<|Bot|>:A1</s>\n",
        "<|System|>:S\n<|User|>:Q1\n<|Bot|>:A1</s>\n<|User|>:Q2\n<|Bot|>:A2</s>\n",
        "<|System|>:S\n<|User|>:Q1\n<|Bot|>:",
    ),
    "firefly_internlm2": chatml_with(INTERNLM),
    "firefly_llama2": Texts(
        f"<<SYS>>\n{LLAMA2}\n<</SYS>>\n\n[INST]Q1[/INST]A1 </s>",
        "<<SYS>>\nS\n<</SYS>>\n\n[INST]Q1[/INST]A1 </s>[INST]Q2[/INST]A2 </s>",
        "<<SYS>>\nS\n<</SYS>>\n\n[INST]Q1[/INST]",
    ),
    "firefly_llama3": Texts(
        "<|start_header_id|>user<|end_header_id|>\n\nQ1<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>",
        "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nQ1<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nQ2<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nA2<|eot_id|>",
        "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nQ1<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "firefly_minicpm3": chatml_with("You are a helpful assistant."),
    "firefly_mistral": Texts("<s>[INST]Q1[/INST]A1</s>", NO_SYSTEM, NO_SYSTEM),
    "firefly_mixtral": Texts("<s>[INST]Q1[/INST]A1</s>", NO_SYSTEM, NO_SYSTEM),
    "firefly_phi3": Texts("<|user|>\nQ1<|end|>\n<|assistant|>A1<|end|>\n", NO_SYSTEM, NO_SYSTEM),
    "firefly_qwen": chatml_with("You are a helpful assistant."),
    "firefly_vicuna": Texts(
        f"{VICUNA}\nUSER: Q1 ASSISTANT:A1</s>",
        "S\nUSER: Q1 ASSISTANT:A1</s>USER: Q2 ASSISTANT:A2</s>",
        "S\nUSER: Q1 ASSISTANT:",
    ),
    "firefly_zephyr": Texts(
        "<|user|>\nQ1</s>\n<|assistant|>\nA1</s>\n",
        "<|system|>\nS</s><|user|>\nQ1</s>\n<|assistant|>\nA1</s>\n<|user|>\nQ2</s>\n<|assistant|>\nA2</s>\n",
        "<|system|>\nS</s><|user|>\nQ1</s>\n<|assistant|>\n",
    ),
}


def test_every_variant_is_written_down() -> None:
    assert set(FIREFLY) == {name for name in template_names() if name.startswith("firefly_")}


@pytest.mark.parametrize("name", FIREFLY)
def test_text_of_a_variant(tokenizer_of: Any, name: str) -> None:
    write = tokenizer_of(name).apply_chat_template
    system, question = {"role": "system", "content": "S"}, {"role": "user", "content": "Q1"}
    exchange = [question, {"role": "assistant", "content": "A1"}]
    more = [{"role": "user", "content": "Q2"}, {"role": "assistant", "content": "A2"}]
    assert write(exchange, tokenize=False) == FIREFLY[name].one
    if FIREFLY[name].two == NO_SYSTEM:
        conversation = Conversation(messages=(Message(role="system", content="S"), *EXCHANGE), source=SOURCE)
        with pytest.raises(RowError, match="not for system"):
            Renderer(tokenizer_of(name)).render(conversation)
    else:
        assert write([system, *exchange, *more], tokenize=False) == FIREFLY[name].two
        assert write([system, question], tokenize=False, add_generation_prompt=True) == FIREFLY[name].asked


def test_mamba_ends_answers_with_the_tokenizers_own_token(new_tokenizer: Any) -> None:
    tokenizer = new_tokenizer("mamba", special=("<|endoftext|>", "<|padding|>"), eos="<|endoftext|>")
    [example] = Renderer(tokenizer).render(Conversation(messages=EXCHANGE, source=SOURCE))
    assert example.trained_text == ("A1<|endoftext|>",)
    assert example.input_ids[example.loss_mask.astype(bool)][-1] == tokenizer.eos_token_id
    assert "</s>" not in example.text


def test_the_text_that_never_ended_an_answer_is_refused(tokenizer_of: Any) -> None:
    with pytest.raises(ConfigError, match="no token of Mamba's tokenizer"):
        tokenizer_of("firefly_mamba")


# Encoding: pieces, each encoded alone; an answer's piece is trained


class Formats(NamedTuple):
    """One of Firefly's registrations, with ``{bos}`` and ``{eos}`` for the tokens that it writes out."""

    ours: str
    system: str | None
    user: str
    assistant: str
    default_system: str | None = None


IM_SYSTEM = "<|im_start|>system\n{c}<|im_end|>\n"
IM_USER, IM_ANSWER = "<|im_start|>user\n{c}<|im_end|>\n<|im_start|>assistant\n", "{c}<|im_end|>\n"
HEAD = "<|start_header_id|>{role}<|end_header_id|>\n\n"
REGISTERED = {
    "default": Formats("firefly_default", "System: {c}\n\n", "User: {c}\nAssistant: ", "{c} {eos}"),
    "internlm": Formats("firefly_internlm", "<|System|>:{c}\n", "<|User|>:{c}\n<|Bot|>:", "{c}{eos}\n", INTERNLM),
    "internlm2": Formats("firefly_internlm2", IM_SYSTEM, IM_USER, IM_ANSWER, INTERNLM),
    "qwen": Formats("firefly_qwen", IM_SYSTEM, IM_USER, IM_ANSWER, "You are a helpful assistant."),
    "minicpm3": Formats("firefly_minicpm3", IM_SYSTEM, IM_USER, IM_ANSWER, "You are a helpful assistant."),
    "yi": Formats("yi", IM_SYSTEM, IM_USER, IM_ANSWER),
    "orion": Formats("orion", "{bos}", "Human: {c}\n\nAssistant: {eos}", "{c}{eos}", ""),
    "deepseek": Formats("firefly_deepseek", None, "User: {c}\n\nAssistant: ", "{c}{eos}"),
    "chatglm2": Formats("firefly_chatglm2", None, "[Round {idx}]\n\n问：{c}\n\n答：", "{c}{eos}"),
    "chatglm3": Formats("firefly_chatglm3", "<|system|>{c}", "<|user|>{c}<|assistant|>", "{c}{eos}", GLM3),
    "ziya2": Formats("ziya2", None, "<human>:{c} <bot>:", "{c}{eos}"),
    "xverse": Formats("xverse", None, "Human: {c}\n\nAssistant: ", "{c}{eos}"),
    "minicpm": Formats("minicpm", None, "<用户>{c}<AI>", "{c}{eos}"),
    "zephyr": Formats("firefly_zephyr", "<|system|>\n{c}{eos}", "<|user|>\n{c}{eos}\n<|assistant|>\n", "{c}{eos}\n"),
    "mistral": Formats("firefly_mistral", "{bos}", "[INST]{c}[/INST]", "{c}{eos}", ""),
    "mixtral": Formats("firefly_mixtral", "{bos}", "[INST]{c}[/INST]", "{c}{eos}", ""),
    "baichuan": Formats("baichuan", None, "<reserved_102>{c}<reserved_103>", "{c}{eos}"),
    "baichuan2": Formats("baichuan2", None, "<reserved_106>{c}<reserved_107>", "{c}{eos}"),
    "vicuna": Formats("firefly_vicuna", "{c}\n", "USER: {c} ASSISTANT:", "{c}{eos}", VICUNA),
    "llama2": Formats("firefly_llama2", "<<SYS>>\n{c}\n<</SYS>>\n\n", "[INST]{c}[/INST]", "{c} {eos}", LLAMA2),
    "llama3": Formats(
        "firefly_llama3",
        "{bos}" + HEAD.replace("{role}", "system") + "{c}<|eot_id|>",
        HEAD.replace("{role}", "user") + "{c}<|eot_id|>" + HEAD.replace("{role}", "assistant"),
        "{c}<|eot_id|>",
    ),
    "gemma": Formats(
        "firefly_gemma",
        "{bos}",
        "<start_of_turn>user\n{c}<end_of_turn>\n<start_of_turn>model\n",
        "{c}{eos}\n",
        "",
    ),
    "phi3": Formats("firefly_phi3", None, "<|user|>\n{c}<|end|>\n<|assistant|>", "{c}<|end|>\n"),
}
SOURCE = Source("rows.jsonl", 1)
EXCHANGE = (Message(role="user", content="Q1"), Message(role="assistant", content="A1"))
ROWS: list[tuple[str | None, list[tuple[str, str]]]] = [
    (None, [("What is the capital of Spain?", "Madrid, of course")]),
    (None, [("one\n\ntwo", "three\n"), ("four  five", "It is\n\nParis."), ("\tWhat?", " one ")]),
    ("Be short: one word.", [(" one, two ", "three"), ("four", "five\n\n")]),
]


def encode(tokenizer: Any, formats: Formats, system: str | None, exchanges: list[tuple[str, str]]) -> tuple[Any, Any]:
    """Ids and target mask of a row, by Firefly's rule."""
    known = {"{bos}": tokenizer.bos_token, "{eos}": tokenizer.eos_token}

    def piece(form: str, content: str = "", idx: int = 0) -> list[int]:
        for mark, token in known.items():
            form = form.replace(mark, token)
        text = form.replace("{idx}", str(idx)).replace("{c}", content.strip())
        return list(tokenizer.encode(text, add_special_tokens=False))

    ids: list[int] = piece("[gMASK]sop") if "chatglm" in formats.ours else []
    chosen = formats.default_system if system is None else system
    if formats.system is not None and chosen is not None:
        ids += piece(formats.system, chosen)
    mask = [0] * len(ids)
    for number, (question, answer) in enumerate(exchanges, 1):
        asked, answered = piece(formats.user, question, number), piece(formats.assistant, answer)
        ids += asked + answered
        mask += [0] * len(asked) + [1] * len(answered)
    return ids, mask


@pytest.mark.parametrize("name", REGISTERED)
@pytest.mark.parametrize(("system", "exchanges"), ROWS, ids=["one turn", "several turns", "system message"])
def test_ids_and_labels_are_those_of_fireflys_encoding(
    tokenizer_of: Any, name: str, system: str | None, exchanges: list[tuple[str, str]]
) -> None:
    formats = REGISTERED[name]
    tokenizer = tokenizer_of(formats.ours)
    has_place = formats.system is not None and "{c}" in formats.system
    if not formats.ours.startswith("firefly_") and formats.ours != "minicpm":  # the vendor keeps white space
        exchanges = [(question.strip(), answer.strip()) for question, answer in exchanges]
    system = system if has_place else None
    messages = [] if system is None else [Message(role="system", content=system)]
    for question, answer in exchanges:
        messages += [Message(role="user", content=question), Message(role="assistant", content=answer)]
    [example] = Renderer(tokenizer).render(Conversation(messages=tuple(messages), source=SOURCE))
    ids, mask = encode(tokenizer, formats, system, exchanges)
    assert example.input_ids.tolist() == ids
    assert example.loss_mask.tolist() == without_what_follows_the_end(ids, mask, tokenizer, formats)


def without_what_follows_the_end(ids: list[int], mask: list[int], tokenizer: Any, formats: Formats) -> list[int]:
    """Firefly's mask, without the line end after the token that ends the answer: generation stops before it."""
    [line_end] = tokenizer.encode("\n", add_special_tokens=False)
    mask = list(mask)
    for place, token in enumerate(ids):
        is_last = place + 1 == len(ids) or not mask[place + 1]
        if mask[place] and is_last and formats.assistant.endswith("\n"):
            assert token == line_end
            mask[place] = 0
    return mask
