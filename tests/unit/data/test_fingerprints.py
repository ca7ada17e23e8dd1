"""The same tokenizer has the same fingerprint wherever it is loaded; one that writes other ids has another."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sft.data import fingerprints
from sft.data.fingerprints import fingerprint_tokenizer

Change = Callable[[Any], Any]


def retrained(tokenizer: Any) -> Any:
    """As a user may do it: the new one still bears the name of the old one."""
    return tokenizer.train_new_from_iterator(["completely other words " * 5], vocab_size=320)


def with_token(tokenizer: Any) -> Any:
    tokenizer.add_tokens(["<new>"])
    return tokenizer


def with_normalizer(tokenizer: Any) -> Any:
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


def with_words(tokenizer: Any) -> Any:
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def with_dropout(tokenizer: Any) -> Any:
    tokenizer.backend_tokenizer.model.dropout = 0.0
    tokenizer.backend_tokenizer.model.ignore_merges = True
    return tokenizer


@pytest.mark.parametrize("change", [retrained, with_token, with_normalizer, with_words, with_dropout])
def test_every_change_shows(tiny_tokenizer_folder: Path, change: Change) -> None:
    load = AutoTokenizer.from_pretrained
    changed = fingerprint_tokenizer(change(load(tiny_tokenizer_folder)))
    assert changed != fingerprint_tokenizer(load(tiny_tokenizer_folder))


def test_a_changed_file_shows_and_a_copy_does_not(tiny_tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_tokenizer_folder, folder)
    before = fingerprint_tokenizer(AutoTokenizer.from_pretrained(tiny_tokenizer_folder))
    assert fingerprint_tokenizer(AutoTokenizer.from_pretrained(folder)) == before
    described = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    described["model"]["merges"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    assert fingerprint_tokenizer(AutoTokenizer.from_pretrained(folder)) != before


def test_a_vocabulary_is_not_written_out_where_its_files_are_at_hand(
    tiny_tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    hash_text = fingerprints.hash_text
    monkeypatch.setattr(fingerprints, "hash_text", lambda text: (hashed.append(text), hash_text(text))[1])
    loaded = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    made = PreTrainedTokenizerFast(tokenizer_object=loaded.backend_tokenizer)
    fingerprint_tokenizer(loaded)
    fingerprint_tokenizer(made)
    has_merges = ['"merges"' in text for text in hashed]
    assert has_merges == [False, True]


def test_a_model_that_reads_little_is_not_warned_of(
    tiny_tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The text that a tokenizer is known by is never read by a model, so its length is nobody's concern."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder, model_max_length=8)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    caplog.set_level(logging.WARNING, logger="transformers")  # a run before may have silenced it
    fingerprint_tokenizer(tokenizer)
    assert caplog.messages == []
    tokenizer("a text that is too long for it, as the library says")
    assert "longer than the specified maximum" in caplog.text
