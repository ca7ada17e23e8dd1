"""Small tokenizers of each kind that the renderer must cope with, built on the spot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from sft.data.templates import read_template

CORPUS = [
    "The capital of France is Paris.\n\nWhat is the capital of Spain?\n It is Madrid, of course it is.",
    "user assistant system tool Instruction: Response: User: Assistant: one two three\nfour  five",
    "one\n\ntwo\n\nthree\n\nfour\n\nfive",
]

NewTokenizer = Callable[..., PreTrainedTokenizerFast]


def byte_level() -> Tokenizer:
    """As GPT-2 and Qwen: bytes, no text before the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def trimmed() -> Tokenizer:
    """As GPT-NeoX: the offsets of a token leave out the space it begins with."""
    tokenizer = byte_level()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def prepend() -> Tokenizer:
    """As the first Llama: a space before every stretch of text, also after a special token."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def metaspace() -> Tokenizer:
    """As later Llama and Mistral: a space before the text, but none after a special token."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


KINDS = {"byte_level": byte_level, "trimmed": trimmed, "prepend": prepend, "metaspace": metaspace}


@pytest.fixture(scope="session")
def new_tokenizer() -> NewTokenizer:
    """Builds a tokenizer of some kind, with these special tokens and this template (a name or text)."""

    def build(
        template: str | None = "chatml",
        *,
        kind: str = "byte_level",
        special: Sequence[str] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        added: Sequence[str] = (),
        eos: str | None = "<|im_end|>",
        bos: str | None = None,
        begins_with_bos: bool = False,
    ) -> PreTrainedTokenizerFast:
        backend = KINDS[kind]()
        byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)] if kind in ("prepend", "metaspace") else []
        alphabet = [] if byte_pieces else pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=["<unk>", *byte_pieces] if byte_pieces else [],
            initial_alphabet=alphabet,
            show_progress=False,
        )
        backend.train_from_iterator(CORPUS, trainer)
        if byte_pieces:  # trained as special tokens to be in the vocabulary, but ordinary pieces
            backend = without_added(backend)
        tokens = [*special, *(token for token in (bos,) if token and token not in special)]
        backend.add_special_tokens(tokens)
        backend.add_tokens(list(added))
        if begins_with_bos:
            assert bos is not None
            backend.post_processor = processors.TemplateProcessing(
                single=[bos, "$A"], pair=[bos, "$A", "$B"], special_tokens=[(bos, backend.token_to_id(bos))]
            )
        names = {name: token for name, token in (("eos_token", eos), ("bos_token", bos)) if token}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
        tokenizer.chat_template = None if template is None else read_template(template)
        return tokenizer

    return build


def without_added(backend: Tokenizer) -> Tokenizer:
    """The same tokenizer with its added tokens only in the vocabulary."""
    import json

    described: dict[str, Any] = json.loads(backend.to_str())
    described["added_tokens"] = [token for token in described["added_tokens"] if token["content"] == "<unk>"]
    return Tokenizer.from_str(json.dumps(described))
