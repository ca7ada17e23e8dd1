"""What decides prepared data, by name, so that it is found again and a miss can say what changed."""

from __future__ import annotations

import json
import os
from typing import Any

from transformers import PreTrainedTokenizerBase

from sft.config import SFTConfig
from sft.data.cache import hash_code, hash_text
from sft.data.conversations import MoreRows
from sft.data.readings import specs_of
from sft.data.sources import fingerprint_source
from sft.data.sources.fingerprint import hash_file

RULES = (
    "format_type", "columns", "role_names", "input_separator", "system_prompt", "use_chat_template", "max_bad_rows",
    "deduplicate",
    "chat_template_kwargs", "train_on", "rewritten_history", "allow_special_tokens", "append_eos",
    "max_length", "min_length", "overlong", "validation_size", "max_train_samples",
    "allow_contamination", "stage", "isolate_documents", "max_prompt_length",
)  # fmt: skip
"""Options."""

FILES = ("tokenizer_file", "vocab_file", "merges_file")
PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
SETTINGS = (
    "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
    "ignore_merges",
)  # fmt: skip
"""Of the model inside a tokenizer."""

PROBE = (
    "The quick brown fox jumps over 13 lazy dogs; naïve façades cost €9.99 (≈ $10).\n\n"
    "def f(x):\n\treturn [i**2 for i in range(x) if i % 7 != 3]  # 🙂 漢字かな交じり文 العربية Русский 한국어\r\n"
    "https://example.org/a?b=c&d=%20 It's WE'LL THEY'VE antidisestablishmentarianism 0123456789 ...---...   "
)
"""Differently trained tokenizers write it differently."""


def fingerprints(config: SFTConfig, tokenizer: PreTrainedTokenizerBase, more: MoreRows | None = None) -> dict[str, str]:
    """Everything that decides the prepared data, by name; a change of any makes it be prepared anew."""
    parts = {name: json.dumps(getattr(config, name), sort_keys=True) for name in RULES}
    parts["seed"] = str(config.seed)
    parts["tasks"] = "none" if more is None else more.fingerprint
    parts["data"] = _fingerprint_data(config, config.data_path)
    parts["evaluation data"] = _fingerprint_data(config, config.eval_data_path, "eval_data_path")
    parts["chat template"] = hash_text(str(tokenizer.chat_template))
    parts["tokenizer"] = fingerprint_tokenizer(tokenizer)
    parts["sft code"] = hash_code()
    return parts


def fingerprint_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """128 bits over what turns text into ids.

    To write out a large vocabulary takes longer than all the rest of finding prepared data. So where the files that it
    was read from are at hand, their bytes stand for it, with all that may have been changed since, and with a text as
    the tokenizer encodes it now.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return hash_text(json.dumps(tokenizer.get_vocab(), sort_keys=True))
    files = _files_of(tokenizer)
    if not files:
        return hash_text(str(backend.to_str()))
    model = backend.model
    return hash_text(
        json.dumps(
            [
                [hash_file(path, path) for path in files],
                [None if part is None else part.__getstate__().decode() for part in _parts(backend)],
                [type(model).__name__, *(str(getattr(model, name, None)) for name in SETTINGS)],
                backend.get_vocab_size(with_added_tokens=False),
                [[number, repr(token)] for number, token in sorted(tokenizer.added_tokens_decoder.items())],
                tokenizer(PROBE, verbose=False)["input_ids"],  # it may be longer than the model reads
            ]
        )
    )


def _parts(backend: Any) -> list[Any]:
    return [getattr(backend, name) for name in PARTS]


def _files_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The files that hold its vocabulary, where they are known."""
    named = [tokenizer.init_kwargs.get(name) for name in FILES]
    folder = str(tokenizer.name_or_path or "")
    whole = os.path.join(folder, "tokenizer.json") if folder else None
    return sorted({path for path in [*named, whole] if isinstance(path, str) and os.path.isfile(path)})


def _fingerprint_data(config: SFTConfig, data_path: str | list[Any] | None, option: str = "data_path") -> str:
    if data_path is None:
        return "none"
    return " ".join(fingerprint_source(spec) for spec in specs_of(config, data_path, option))
