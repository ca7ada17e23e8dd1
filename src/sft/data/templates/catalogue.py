"""Names of the shipped templates: the file of each, whose text it is, and what the tokenizer must have for it.

Several names may share a file. A plain name is the text of the model's vendor, ``firefly_NAME`` is Firefly's own where
the two differ, and ``llama_factory_NAME`` LLaMA-Factory's where there is no vendor. See ``docs/templates.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Shipped:
    """One name."""

    file: str
    """Name of the .jinja file, without its ending."""
    about: str
    """Whose text it is, for people."""
    needs: tuple[str, ...] = ()
    """Texts that steer the model only as a single token of the tokenizer."""
    bos: str = "own"
    """own: the file says it all. habit: ``bos_token`` comes first where the tokenizer begins texts with it, since the
    text belongs to no one family. first: ``bos_token`` comes first."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Variables of the file that this name sets, unless they are given."""


IM = ("<|im_start|>", "<|im_end|>")
LLAMA3 = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
GEMMA = ("<start_of_turn>", "<end_of_turn>")
PHI3 = ("<|user|>", "<|assistant|>", "<|end|>")
GLM = ("[gMASK]", "sop", "<|user|>", "<|assistant|>")

INTERNLM2_SYSTEM = (
    "You are an AI assistant whose name is InternLM (书生·浦语).\n"
    "- InternLM (书生·浦语) is a conversational language model that is developed by Shanghai AI Laboratory "
    "(上海人工智能实验室). It is designed to be helpful, honest, and harmless.\n"
    "- InternLM (书生·浦语) can understand and communicate fluently in the language chosen by the user such as "
    "English and 中文."
)


def _chatml(about: str, default_system: str | None = None, bos: str = "own") -> Shipped:
    return Shipped("chatml", about, IM, bos, {} if default_system is None else {"default_system": default_system})


def _firefly_chatml(about: str, default_system: str) -> Shipped:
    return Shipped("chatml", about, IM, variables={"default_system": default_system, "trims": True})


SHIPPED: Mapping[str, Shipped] = {
    # texts of no one family
    "alpaca": Shipped("alpaca", "Stanford Alpaca's, as LLaMA-Factory continues it over several turns", bos="habit"),
    "chatml": Shipped("chatml", "OpenAI's ChatML", IM, "habit"),
    "default": Shipped("default", "System: / User: / Assistant:, for models that have no format yet", bos="habit"),
    "empty": Shipped("empty", "contents alone, one after the other; an answer ends with eos_token", bos="habit"),
    "instruction": Shipped("instruction", "Instruction: / Response:, plain text", bos="habit"),
    "axolotl_alpaca": Shipped("axolotl_alpaca", "Stanford Alpaca's with its two openings, as axolotl", bos="habit"),
    "axolotl_alpaca_chat": Shipped("axolotl_alpaca_chat", "the same as SYSTEM: / USER: / ASSISTANT:", bos="habit"),
    "axolotl_alpaca_phi": Shipped("axolotl_alpaca_phi", "the same with Phi-3's markers, as axolotl", PHI3),
    # families
    "baichuan": Shipped("baichuan", "Baichuan-13B-Chat", ("<reserved_102>", "<reserved_103>")),
    "baichuan2": Shipped("baichuan2", "Baichuan2-Chat", ("<reserved_106>", "<reserved_107>")),
    "chatglm2": Shipped("chatglm2", "ChatGLM2, rounds numbered from 1", ("[gMASK]", "sop")),
    "chatglm3": Shipped("chatglm3", "ChatGLM3, with tools", (*GLM, "<|system|>", "<|observation|>")),
    "chatml_de": _chatml(
        "ChatML with a German system message", "Du bist ein freundlicher und hilfsbereiter KI-Assistent."
    ),
    "cpm4": _chatml("MiniCPM4, ChatML after bos_token", bos="first"),
    "deepseek": Shipped("deepseek", "DeepSeek LLM and DeepSeek-V2-Lite chat"),
    "deepseek3": Shipped("deepseek3", "DeepSeek-V3, without tools", ("<｜User｜>", "<｜Assistant｜>")),
    "deepseekr1": Shipped("deepseekr1", "DeepSeek-R1 and its distillations", ("<｜User｜>", "<｜Assistant｜>")),
    "falcon_h1": _chatml("Falcon-H1, ChatML after bos_token, without tools", bos="first"),
    "gemma": Shipped("gemma", "Gemma 1 to 3; the system message goes before the first question", GEMMA),
    "gemma2": Shipped("gemma", "Gemma 2, the same as gemma", GEMMA),
    "gemma3": Shipped("gemma", "Gemma 3, the same as gemma", GEMMA),
    "internlm": Shipped("internlm", "InternLM-Chat", ("<eoa>",)),
    "internlm2": _chatml("InternLM2-Chat's template, ChatML after bos_token", bos="first"),
    "intern2": _chatml("internlm2 with the system message of its chat function", INTERNLM2_SYSTEM, "first"),
    "llama2": Shipped("llama2", "Llama 2 chat"),
    "llama2_zh": Shipped(
        "llama2",
        "llama2 with a system message in English and Chinese",
        variables={"default_system": "You are a helpful assistant. 你是一个乐于助人的助手。"},
    ),
    "llama3": Shipped("llama3", "Llama 3 Instruct, with Llama 3.1's tools", LLAMA3),
    "llama3.1": Shipped("llama3.1", "Llama 3.1 Instruct, dates in the system turn, with tools", LLAMA3),
    "llama3.2": Shipped("llama3.1", "Llama 3.2 Instruct, the date fixed as in llama3.1", LLAMA3),
    "llama3.3": Shipped("llama3.1", "Llama 3.3 Instruct, the same as llama3.1", LLAMA3),
    "mamba": Shipped("zephyr", "the fork of Firefly's for Mamba: zephyr's text, ended by eos_token", bos="habit"),
    "minicpm": Shipped("minicpm", "MiniCPM", ("<用户>", "<AI>"), "habit"),
    "minicpm3": _chatml("MiniCPM3, ChatML, without tools", bos="habit"),
    "mistral": Shipped("mistral", "Mistral 7B v0.3 Instruct and Mixtral 8x22B (tokenizer v3), with tools"),
    "mistral_v1": Shipped("mistral_v1", "Mistral 7B v0.1 and v0.2 Instruct (tokenizer v1)"),
    "mixtral": Shipped("mistral_v1", "Mixtral 8x7B Instruct, the same as mistral_v1"),
    "opencoder": _chatml("OpenCoder", "You are OpenCoder, created by OpenCoder Team."),
    "orion": Shipped("orion", "Orion-Chat"),
    "phi": Shipped("phi3", "Phi-3, the same as phi3", PHI3),
    "phi3": Shipped("phi3", "Phi-3 and Phi-3.5 Instruct", PHI3),
    "phi4": Shipped("phi4", "Phi-4", (*IM, "<|im_sep|>")),
    "phi4_mini": Shipped("phi4_mini", "Phi-4-mini, with tools", PHI3),
    "qwen": Shipped("qwen", "Qwen2.5 Instruct, with tools", IM),
    "qwen1.5": _chatml("Qwen1.5 and Qwen2 chat", "You are a helpful assistant."),
    "qwen2": _chatml("Qwen2 Instruct, the same as qwen1.5", "You are a helpful assistant."),
    "qwen2.5": Shipped("qwen", "Qwen2.5 Instruct, the same as qwen", IM),
    "qwen3": Shipped("qwen3", "Qwen3 with and without thoughts, with tools", IM),
    "qwen3_nothink": Shipped("qwen3_nothink", "Qwen3-Instruct-2507, no thoughts, with tools", IM),
    "smollm": _chatml("SmolLM Instruct"),
    "smollm2": _chatml("SmolLM2", "You are a helpful AI assistant named SmolLM, trained by Hugging Face."),
    "vicuna": Shipped("vicuna", "Vicuna v1.1 and later, as FastChat writes it", bos="habit"),
    "xverse": Shipped("xverse", "XVERSE-Chat", bos="habit"),
    "yi": _chatml("Yi-Chat, ChatML"),
    "zephyr": Shipped("zephyr", "Zephyr 7B", bos="habit"),
    "ziya2": Shipped("ziya2", "Ziya2-Chat, as Firefly writes it", bos="habit"),
    # Firefly's own texts
    "firefly_chatglm2": Shipped("firefly_chatglm2", "every answer ended by eos_token", ("[gMASK]", "sop")),
    "firefly_chatglm3": Shipped("firefly_chatglm3", "without line ends, own system message", (*GLM, "<|system|>")),
    "firefly_deepseek": Shipped("firefly_deepseek", "without bos_token; the prompt ends with a space"),
    "firefly_default": Shipped("firefly_default", "the prompt ends with a space, and so does an answer"),
    "firefly_gemma": Shipped("firefly_gemma", "answers end with eos_token, not with <end_of_turn>", GEMMA),
    "firefly_internlm": Shipped("firefly_internlm", "answers end with eos_token, own system message"),
    "firefly_internlm2": _firefly_chatml("without bos_token, with a system message", INTERNLM2_SYSTEM),
    "firefly_llama2": Shipped("firefly_llama2", "system message before [INST], no bos_token, no spaces"),
    "firefly_llama3": Shipped("firefly_llama3", "bos_token only before a system message", LLAMA3),
    "firefly_minicpm3": _firefly_chatml("with a system message", "You are a helpful assistant."),
    "firefly_mistral": Shipped("firefly_mistral", "no spaces around [INST] and [/INST]"),
    "firefly_mixtral": Shipped("firefly_mistral", "the same as firefly_mistral"),
    "firefly_phi3": Shipped("firefly_phi3", "no line end after <|assistant|>", PHI3),
    "firefly_qwen": _firefly_chatml("Qwen1.5's system message", "You are a helpful assistant."),
    "firefly_vicuna": Shipped("firefly_vicuna", "a line end after the system message, no space before answers"),
    "firefly_zephyr": Shipped("firefly_zephyr", "no line end after the system message"),
    # LLaMA-Factory's own text
    "llama_factory_default": Shipped("llama_factory_default", "Human: / Assistant:, turns ended by eos_token"),
}

OTHERS_IMAGES = (
    "dots_ocr", "ernie_vl", "gemma3n", "gemma4", "gemma4_unified", "gemma4n", "glm4_5v", "glm4v", "glm_ocr",
    "granite3_vision", "intern_s1", "intern_vl", "keye_vl", "kimi_vl", "lfm2_vl", "llama3_2_vision", "llama4",
    "llava", "llava_next", "llava_next_llama3", "llava_next_mistral", "llava_next_qwen", "llava_next_video",
    "llava_next_video_mistral", "llava_next_video_yi", "llava_next_yi", "mimo_vl", "minicpm_o", "minicpm_v",
    "minicpm_v_4_6", "ministral3", "mistral_small", "mllama", "moss_vl", "paligemma", "paligemma_chat", "pixtral",
    "qwen2_audio", "qwen2_omni", "qwen2_vl", "qwen3_5", "qwen3_5_nothink", "qwen3_5_think", "qwen3_6", "qwen3_omni",
    "qwen3_omni_nothink", "qwen3_vl", "qwen3_vl_nothink", "video_llava", "yi_vl", "youtu_vl",
)  # fmt: skip
"""Names in LLaMA-Factory and axolotl for models of images, video or sound, whose tokenizers write the text."""

OTHERS = (
    "aeva", "aya", "bailing", "bailing_v2", "breeze", "cohere", "command_a", "dbrx", "deepseek_v2", "deepseekcoder",
    "devstral", "ernie", "ernie_nothink", "exaone", "exaone4", "falcon", "fewshot", "glm4", "glm4_7",
    "glm4_moe", "glmz1", "gpt_oss", "granite3", "granite4", "hunyuan", "hunyuan_small", "hy3", "hy_dense_1_8b",
    "hy_dense_7b", "index", "internlm3", "jamba", "lfm2", "metharme", "mimo", "mimo_v2", "minimax1", "minimax2",
    "ministral", "mistral_v3_tekken", "mistral_v7_tekken", "moonlight", "nemotron_h", "olmo", "openchat",
    "openchat-3.6", "phi_small", "sailor", "seed_coder", "seed_oss", "solar", "starchat", "telechat2", "xuanyuan",
    "youtu", "yuan",
)  # fmt: skip
"""Other names of theirs, for text, that have no file here."""
