"""Which model is trained and how its weights are held."""

from __future__ import annotations

from dataclasses import dataclass

from sft.config.option import option

SPECIAL_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Base model, tokenizer, precision of the weights."""

    model_name_or_path: str = option(
        "Qwen/Qwen2.5-1.5B", "The model to fine-tune: a local folder or a name on the Hugging Face hub."
    )
    model_revision: str | None = option(
        None, "Branch, tag or commit of the model on the hub. Unset: its default branch."
    )
    tokenizer_name_or_path: str | None = option(None, "Folder or hub name of the tokenizer. Unset: the model's own.")
    trust_remote_code: bool = option(
        False, "Run Python code that a model folder or hub repository brings along. Only for code you have read."
    )
    dtype: str | None = option(
        None,
        "Precision the weights are loaded in. Unset: float32 for weights that are trained; for the frozen base under "
        "an adapter, bfloat16 with bf16, float16 with fp16, else float32. auto: as saved.",
        choices=["auto", "float32", "bfloat16", "float16"],
    )
    attn_implementation: str | None = option(
        None,
        "Attention kernel by transformers' name (eager, sdpa, flash_attention_2, ...). Unset: the library's choice.",
    )
    load_in_4bit: bool = option(False, "Hold the frozen base in 4 bits (QLoRA, by bitsandbytes). Needs use_lora.")
    load_in_8bit: bool = option(False, "Hold the frozen base in 8 bits (bitsandbytes). Needs use_lora.")
    quantize_experts: bool = option(
        False,
        "With load_in_4bit or load_in_8bit: hold the experts of a mixture in as few bits, which are no linear layers. "
        "They are loaded in full first, on the CPU.",
    )
    bnb_4bit_quant_type: str = option(
        "nf4",
        "The sixteen values of 4 bits: nf4 for weights as networks have them, fp4 for plain floats.",
        choices=["nf4", "fp4"],
    )
    bnb_4bit_use_double_quant: bool = option(
        True, "Hold the scales of the 4-bit blocks in 8 bits too; it saves 0.4 bits a weight."
    )
    bnb_4bit_compute_dtype: str | None = option(
        None,
        "Precision that 4-bit weights are computed in. Unset: that of the weights that are not quantised (dtype).",
        choices=["float32", "bfloat16", "float16"],
    )
    special_tokens: dict[str, str] = option(
        {},
        "Which tokens play the special parts, where the tokenizer says otherwise: {eos_token: <|im_end|>}. Keys are "
        "bos_token, eos_token, pad_token and unk_token; values are tokens that it has. Saved with the model.",
    )
    added_tokens: list[str] | None = option(
        None,
        "Words that become one token each. Their embedding rows are trained; under LoRA only these rows are, and the "
        "adapter holds no others.",
    )
    added_special_tokens: list[str] | None = option(
        None, "The same for tokens of structure, which are left out of shown text, such as <think>."
    )
