"""Build a tiny Qwen3-shaped model with random weights, and a byte-level tokenizer for it: nothing is downloaded.

    python build_model.py OUTPUT_DIR

The tokenizer knows the words that the questions are made of, each as one token; any other word is read byte by byte,
so that a word never seen before can be spelled. The model has about half a million weights and knows nothing yet.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

HERE = Path(__file__).resolve().parent
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ROLES = ("user", "assistant")
MIN_COUNT = 50
"""A word that the questions use at least this often is one token."""

# How Qwen's tokenizers cut text into words before looking them up.
WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def build_tokenizer(questions: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE: 256 bytes, the frequent words of ``questions``, and Qwen's control tokens."""
    words = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    counts = Counter(word for question in questions for word, _ in words.pre_tokenize_str(question))
    frequent = sorted(word for word, count in counts.items() if count >= MIN_COUNT and len(word) > 1)
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *ROLES, *frequent]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}

    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    backend.pre_tokenizer = words
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Qwen3ForCausalLM:
    """Three layers of Qwen3's architecture, weights drawn at random."""
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=-(-len(tokenizer) // 64) * 64,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def read_questions(path: Path) -> list[str]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [turn["content"] for row in rows for turn in row["messages"] if turn["role"] == "user"]


def main(argv: Sequence[str]) -> None:
    (output_dir,) = argv
    tokenizer = build_tokenizer(read_questions(HERE / "data" / "train.jsonl"))
    model = build_model(tokenizer)
    disable_progress_bar()
    tokenizer.save_pretrained(output_dir)
    model.save_pretrained(output_dir)
    print(f"{output_dir}: {model.num_parameters():,} random weights, {len(tokenizer)} tokens")


if __name__ == "__main__":
    main(sys.argv[1:])
